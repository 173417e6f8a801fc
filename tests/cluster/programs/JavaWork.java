// java JavaWork [ROUNDS]: rounds of work that threads share, each round's sum in a line.
//
// What a round comes to follows from its number and from the rounds before, however its threads are
// scheduled: whoever runs it unmoved gets the same lines. There is much for the machine to do:
// garbage, compilation, monitors, parked threads, faults that become exceptions (null, division by
// zero, a full stack), interrupts, sleeps. Its threads are made once, as a server's are; with
// MAKES_THREADS in the environment many are made in every round, and end.
// Without ROUNDS it goes on until SIGUSR1 and then prints "end" and how many there were. EVERY_MS is
// the least time of a round.
// Lines: "NUMBER SUM". What is found to be wrong is said in a line "wrong: ...", and ends it by 1.
import java.io.FileOutputStream;
import java.io.FileDescriptor;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Exchanger;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executor;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import java.util.stream.LongStream;

public class JavaWork {
  static final int ACCOUNTS = 16;
  static final int START = 1000;
  static final int BANKERS = 6;
  static final int HELPERS = BANKERS + 3;
  static final FileOutputStream out = new FileOutputStream(FileDescriptor.out);
  static Executor helpers;

  static void put(String line) {
    try {
      out.write(line.getBytes(StandardCharsets.US_ASCII));
    } catch (java.io.IOException e) {
      Runtime.getRuntime().halt(3);
    }
  }

  static RuntimeException wrong(String what) {
    put("wrong: " + what + "\n");
    Runtime.getRuntime().halt(1);
    return new IllegalStateException(what);
  }

  static final class Dice {
    long state;

    Dice(long seed) {
      state = seed | 1;
    }

    int roll(int sides) {
      state ^= state >>> 12;
      state ^= state << 25;
      state ^= state >>> 27;
      return (int) Long.remainderUnsigned(state * 0x2545f4914f6cdd1dL, sides);
    }
  }

  static long spin(long seed) {
    long x = seed | 1;
    for (int i = 0; i < 3000000; i++) x = x * 6364136223846793005L + 1442695040888963407L;
    return x;
  }

  static final class Account {
    long amount = START;
  }

  // Amounts go from one account to another, each under its monitor, and none is lost.
  static long bank(long seed) throws Exception {
    Account[] accounts = new Account[ACCOUNTS];
    for (int i = 0; i < ACCOUNTS; i++) accounts[i] = new Account();
    AtomicLong transfers = new AtomicLong();
    List<CompletableFuture<Void>> bankers = new ArrayList<>();
    for (int b = 0; b < BANKERS; b++) {
      Dice dice = new Dice(seed + b * 7919L);
      bankers.add(
          CompletableFuture.runAsync(
              () -> {
                for (int i = 0; i < 1500; i++) {
                  int from = dice.roll(ACCOUNTS), to = dice.roll(ACCOUNTS);
                  if (from == to) continue;
                  synchronized (accounts[Math.min(from, to)]) {
                    synchronized (accounts[Math.max(from, to)]) {
                      long n = dice.roll(100);
                      accounts[from].amount -= n;
                      if (dice.roll(300) == 0) Thread.yield();
                      accounts[to].amount += n;
                    }
                  }
                  transfers.incrementAndGet();
                }
              },
              helpers));
    }
    for (CompletableFuture<Void> banker : bankers) banker.get();
    long sum = 0, hash = 0;
    for (Account account : accounts) {
      sum += account.amount;
      hash = hash * 31 + account.amount;
    }
    if (sum != (long) ACCOUNTS * START) throw wrong("the sum of the accounts");
    return hash ^ transfers.get();
  }

  // Garbage, and what is kept among it.
  static long garbage(long seed) throws Exception {
    Dice dice = new Dice(seed);
    TreeMap<Integer, String> tree = new TreeMap<>();
    HashMap<String, byte[]> map = new HashMap<>();
    for (int i = 0; i < 4000; i++) {
      int key = dice.roll(1 << 24);
      String name = "key " + key;
      tree.put(key, name);
      byte[] block = new byte[dice.roll(2000)];
      for (int j = 0; j < block.length; j += 97) block[j] = (byte) (key + j);
      map.put(name, block);
    }
    MessageDigest digest = MessageDigest.getInstance("SHA-256");
    for (var entry : tree.entrySet()) {
      byte[] block = map.get(entry.getValue());
      if (block == null || !entry.getValue().equals("key " + entry.getKey())) throw wrong("a key has changed");
      for (int j = 0; j < block.length; j += 97)
        if (block[j] != (byte) (entry.getKey() + j)) throw wrong("a block has changed");
      digest.update(block);
    }
    long sum = 0;
    for (byte b : digest.digest()) sum = sum * 31 + b;
    return sum;
  }

  static int deep(int n) {
    return deep(n + 1) + 1;
  }

  static String none(int i) {
    return i >= 0 ? null : "some";
  }

  // Signals that become exceptions: SIGSEGV for null and for a full stack, SIGFPE for a division.
  static long faults(long seed) {
    int nulls = 0, zeros = 0, overflows = 0;
    for (int i = 0; i < 200; i++) {
      try {
        nulls += none(i).length();
      } catch (NullPointerException e) {
        nulls++;
      }
      try {
        zeros += i / (nulls - nulls);
      } catch (ArithmeticException e) {
        zeros++;
      }
    }
    for (int i = 0; i < 2; i++) {
      try {
        deep(0);
      } catch (StackOverflowError e) {
        overflows++;
      }
    }
    if (nulls != 200 || zeros != 200 || overflows != 2) throw wrong("a fault was not caught");
    return seed + nulls + zeros + overflows;
  }

  // Two threads hand each other numbers, by wait and notify, and by parking.
  static long turns(long seed) throws Exception {
    Object monitor = new Object();
    long[] shared = {seed, 0};
    CompletableFuture<Void> other =
        CompletableFuture.runAsync(
            () -> {
              for (int i = 0; i < 100; i++)
                synchronized (monitor) {
                  while (shared[1] % 2 == 0)
                    try {
                      monitor.wait();
                    } catch (InterruptedException e) {
                      throw wrong("interrupted");
                    }
                  shared[0] = shared[0] * 31 + i;
                  shared[1]++;
                  monitor.notify();
                }
            },
            helpers);
    for (int i = 0; i < 100; i++)
      synchronized (monitor) {
        while (shared[1] % 2 == 1) monitor.wait();
        shared[0] = shared[0] * 37 + i;
        shared[1]++;
        monitor.notify();
      }
    other.get();
    Exchanger<Long> exchanger = new Exchanger<>();
    CompletableFuture<Void> partner =
        CompletableFuture.runAsync(
            () -> {
              try {
                for (long i = 0; i < 50; i++)
                  if (exchanger.exchange(i) != 2 * i) throw wrong("another number was exchanged");
              } catch (InterruptedException e) {
                throw wrong("interrupted");
              }
            },
            helpers);
    for (long i = 0; i < 50; i++)
      if (exchanger.exchange(2 * i) != i) throw wrong("another number was exchanged");
    partner.get();
    return shared[0];
  }

  static long sleeps(long seed) throws Exception {
    long begun = System.nanoTime();
    Thread.sleep(5);
    if (System.nanoTime() - begun < 5000000L) throw wrong("a sleep ended early");
    LockSupport.parkNanos(1000000L);
    Thread interrupted = Thread.currentThread();
    CompletableFuture<Void> interrupter =
        CompletableFuture.runAsync(
            () -> {
              interrupted.interrupt();
            },
            helpers);
    try {
      Thread.sleep(600000);
      throw wrong("it was not interrupted");
    } catch (InterruptedException e) {
      seed++;
    }
    interrupter.get();
    return seed;
  }

  static long streams(long seed) {
    return LongStream.range(0, 20000).parallel().map(i -> (i + seed) * (i ^ seed)).sum();
  }

  static long round(ExecutorService pool, long number, long before) throws Exception {
    long seed = before + number * 1000003L;
    List<Callable<Long>> jobs =
        List.of(
            () -> spin(seed),
            () -> spin(seed + 1),
            () -> bank(seed + 2),
            () -> garbage(seed + 3),
            () -> garbage(seed + 4),
            () -> faults(seed + 5),
            () -> turns(seed + 6),
            () -> sleeps(seed + 7),
            () -> streams(seed + 8));
    long sum = before;
    for (Future<Long> result : pool.invokeAll(jobs)) sum = sum * 0x9e3779b97f4a7c15L + result.get();
    if (number % 16 == 0) System.gc();
    return sum;
  }

  public static void main(String[] arguments) throws Exception {
    long rounds = arguments.length > 0 ? Long.parseLong(arguments[0]) : Long.MAX_VALUE;
    String every = System.getenv("EVERY_MS");
    long pause = every == null ? 0 : Long.parseLong(every);
    AtomicLong most = new AtomicLong(rounds);
    sun.misc.Signal.handle(new sun.misc.Signal("USR1"), signal -> most.set(0));
    ExecutorService pool = Executors.newFixedThreadPool(5);
    ThreadPoolExecutor kept = (ThreadPoolExecutor) Executors.newFixedThreadPool(HELPERS);
    kept.prestartAllCoreThreads();
    helpers = System.getenv("MAKES_THREADS") == null ? kept : task -> new Thread(task).start();
    long sum = 1, number = 0;
    for (; number < most.get(); number++) {
      long begun = System.nanoTime();
      sum = round(pool, number, sum);
      put(String.format("%d %016x\n", number, sum));
      long left = pause - (System.nanoTime() - begun) / 1000000L;
      if (left > 0) Thread.sleep(left);
    }
    pool.shutdown();
    kept.shutdown();
    put("end " + number + "\n");
  }
}
