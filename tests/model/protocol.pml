/* The protocol by which a process moves: outbound, hop, homecoming, calls, and what goes wrong.
 *
 * One process, its deputy at home, and guests on two other nodes, 0 and 1. States and messages
 * have the names that docs/protocol.md says where to find in the code; test_protocol.py compares
 * messages and steps with it (a comment "step NAME" stands where the fault point NAME of
 * common/fault.h is passed).
 *
 * A connection keeps order and delivers nothing twice, but may die with any suffix of what was
 * sent undelivered, in either direction: it is TCP under TLS. A direction of a link that is cut
 * delivers nothing; what was sent arrives when it heals, unless an end has given up meanwhile.
 *
 * Time passes, in ticks, only where the protocol counts on it: from a guest's kReady until home has
 * been heard of again, or is sure that the body has ended. Otherwise anything may take any time,
 * and a silence is noticed sooner or later. Every run ends; where nothing can happen any more,
 * Settled looks whether the process runs in one place or has ended and its user knows why.
 *
 * The bounds and the mutations are given by test_protocol.py as macros.
 */
#ifndef MOVES
#define MOVES 2
#endif
#ifndef FAULTS
#define FAULTS 1
#endif
#ifndef CALLS
#define CALLS 1
#endif
#ifndef NOTES
#define NOTES 1 /* declarations of the program that home mirrors: kAction, kMask */
#endif
#ifndef DISTURBANCES
#define DISTURBANCES 0
#endif
#ifndef NEEDS
#define NEEDS 0 /* calls that only home can execute */
#endif
#ifndef EXITS
#define EXITS 0
#endif
#ifndef KEEP
#define KEEP 0 /* P's memory is kept: it may go on from where it left if its body is lost */
#endif

/* In ticks: in this order stand kLease / 2, kRunPatience, kLease and kLease + kMargin. */
#ifndef LEASE
#define LEASE 3
#endif
#ifndef MARGIN
#define MARGIN 2
#endif
#ifndef DRIFT
#define DRIFT 1 /* by how much a guest may be late at the end of its lease, clock and all */
#endif
#ifndef HOME_WAIT
#define HOME_WAIT (LEASE + MARGIN)
#endif
#define COMMIT_PATIENCE 1
#define RUN_PATIENCE 2

#define OFF 255
#define NONE 2

mtype:frame = {
  kHop, kImageEnd, kReady, kFailed, kCommit, kRunning, kRecall, kImageRefused, kImageSent,
  kDiscard, kHeartbeat, kEnded, kCall, kReply, kAction, kExit, kNeedHome
}
mtype:call_end = { kDone, kDisturbed, kHeld }

/* P, the process at home: it runs; is stopped, but has all it had; is hollow; has ended. */
mtype:home = { pRuns, pStopped, pHollow, pEnded }
/* The deputy, by what it is at. */
mtype:deputy = {
  dNone, dConnected, dFrozen, dAgree, dCommit, dEndBody, dServe, dTakeImage, dRebuild, dAwaitAnswer,
  dHopOpen, dAwaitHop, dCommitHop, dHopEndBody, dBodyLost, dOver, dLost, dDead
}
/* A guest, by what it is at. */
mtype:guest = {
  gNone, gTakeImage, gAwaitCommit, gCommitted, gServe, gFreeze, gSendHome, gSendHop, gSentHop, gEnd,
  gKilled
}
/* Its body. In a call it runs, too: the answer makes it go on. */
mtype:body = { bNone, bBuilt, bRuns, bInCall, bExiting, bFrozen }

mtype:home p = pRuns;
mtype:deputy d = dNone;
bool exitkill;           /* PTRACE_O_EXITKILL: P dies with the deputy */
bool said;               /* the user knows why P has ended */
byte cur = NONE;         /* the guest that the deputy serves, or sends P to */
byte target = NONE;      /* of a hop */
bool answer_due;         /* Deputy::answer_due_ */
bool source_gone;        /* of a hop, from where the deputy stands */
bool recalling;          /* HomeProcess::recalling */
bool in_call;            /* a forwarded call is under way in P */
byte last_call;          /* its sequence number */
byte call_made;          /* and which one of the program's it is */
byte image;              /* what has come home */
byte moves = MOVES;
byte faults = FAULTS;
byte disturbances = DISTURBANCES;
byte needs = NEEDS;
byte home_clock = OFF;   /* since kCommit was sent, or since home has broken off */
bool whole;              /* P has all that it had, and nothing that it has done since had an effect */
bool left_noted;         /* what it had declared when it left */

/* What the program has done: calls that have returned; effects of calls, as home sees them. */
byte p_calls;
byte effects[2];
bool p_noted = !NOTES;   /* what the program has declared, as home knows it */

mtype:guest g[2] = gNone;
mtype:body b[2] = bNone;
byte b_calls[2];
bool b_noted[2];
byte sequence[2];
byte clock[2] = OFF;     /* since kReady; OFF: home has been heard of since */
byte late[2];
bool has_run[2];
bool from_guest[2];      /* the image comes from the other guest */
bool leaves_home[2];
bool node_dead[2];
bool blamed[2];          /* a fault has hit this guest, its node, or its link to home */

/* A connection between the deputy and a guest: what is under way, which ends are open. */
chan to_guest[2] = [5] of { mtype:frame, byte, mtype:call_end };
chan to_home[2] = [6] of { mtype:frame, byte, byte };
bool home_end[2], guest_end[2];
bool cut_down[2], cut_up[2];           /* nothing gets through from home, to home */
bool cut_hop;                          /* nor between the two other nodes */
bool stays_cut[2], hop_stays_cut;      /* it does not heal */
chan hop_image[2] = [1] of { byte };   /* from the other guest to this one */

/* Of one step only: what has just been received. */
hidden mtype:frame m;
hidden mtype:call_end e;
hidden byte n, k;

#define RUNS(i) (b[i] == bRuns || b[i] == bInCall)
#define LINKED(i) (!cut_down[i] && !cut_up[i])
#ifdef ANSWER_NOT_IN_IMAGE
#define IMAGE_OF(i) ((b_calls[i] - (sequence[i] > 0 && b_calls[i] > 0)) | (b_noted[i] << 4))
#else
#define IMAGE_OF(i) (b_calls[i] | (b_noted[i] << 4))
#endif
#define DEPUTY_LIVES (d != dNone && d != dOver && d != dLost && d != dDead)

/* Invariant 1: one copy. */
inline one_copy() {
  assert((p == pRuns -> 1 : 0) + (RUNS(0) -> 1 : 0) + (RUNS(1) -> 1 : 0) <= 1)
}
/* Invariant 2: exactly once. */
inline take_effect(k) {
  effects[k]++;
#ifndef GOES_BACK_PAST_AN_EFFECT
  whole = false; /* Effects::happened */
#endif
  assert(effects[k] == 1)
}
/* Not a property: what must be possible, or the model shows nothing. */
#ifdef REACH
#define reach(what) assert(what != REACH)
#else
#define reach(what) skip
#endif
#define OUTBOUND 1
#define HOMECOMING 2
#define HOP 3
#define COMMIT_UNDONE 4
#define HOP_UNDONE 5
#define IMAGE_REFUSED 6
#define LOSS 7
#define LEASE_ENDED 8
#define MOVED_FROM_LOST_SOURCE 9
#define WENT_BACK 10
#define WENT_BACK_AT_ONCE 11

/* ---------------------------------------------------------------------------- connections */

inline flush_down(i) {
  do
  :: nempty(to_guest[i]) -> to_guest[i]?_, _, _
  :: empty(to_guest[i]) -> break
  od
}
inline flush_up(i) {
  do
  :: nempty(to_home[i]) -> to_home[i]?_, _, _
  :: empty(to_home[i]) -> break
  od
}
inline tell_guest(i, word, number, end) {
  if
  :: home_end[i] && guest_end[i] ->
     assert(nfull(to_guest[i]));
     to_guest[i]!word, number, end
  :: else
  fi
}
inline tell_home(i, word, number, what) {
  if
  :: guest_end[i] && home_end[i] ->
     assert(nfull(to_home[i]));
     to_home[i]!word, number, what
  :: else
  fi
}
inline close_home_end(i) {
  home_end[i] = false;
  flush_up(i)
}
inline close_guest_end(i) {
  guest_end[i] = false;
  flush_down(i)
}
#define HEARS_GUEST(i) (home_end[i] && nempty(to_home[i]) && !cut_up[i])
#define HEARS_HOME(i) (guest_end[i] && nempty(to_guest[i]) && !cut_down[i])
/* One end finds that the other has gone, or that nothing gets through. What was still under way
 * to it is lost then. TCP needs both directions. */
#define LOST_GUEST(i) (!home_end[i] || !guest_end[i] || !LINKED(i))
#define LOST_HOME(i) (!guest_end[i] || !home_end[i] || !LINKED(i))

#define CAN_PLACE(i) (g[i] == gNone && !home_end[i] && !node_dead[i] && LINKED(i))
/* A new epoch: a place is made on a node, and the deputy connected to the guest there. */
inline open_place(i) {
  if
  :: nempty(hop_image[i]) -> hop_image[i]?_ /* of another epoch: nobody has its key */
  :: empty(hop_image[i])
  fi;
  flush_down(i);
  flush_up(i);
  home_end[i] = true;
  guest_end[i] = true;
  g[i] = gTakeImage;
  b[i] = bNone;
  b_calls[i] = 0;
  b_noted[i] = false;
  from_guest[i] = false;
  clock[i] = OFF;
  late[i] = 0;
  sequence[i] = 0;
  has_run[i] = false;
  blamed[i] = false
}

/* ---------------------------------------------------------------------------- the deputy */

/* Outbound::undo: P goes on where it stood, untraced. */
inline undo() {
  if
  :: p == pStopped ->
     p = pRuns;
     one_copy()
  :: else
  fi;
  exitkill = false;
  home_clock = OFF;
  close_home_end(cur);
  cur = NONE;
  d = dNone
}
/* Deputy::over: P has ended. */
inline over() {
  said = true;
  tell_guest(cur, kDiscard, 0, kDone);
  close_home_end(cur);
  if
  :: target != NONE ->
     close_home_end(target);
     target = NONE
  :: else
  fi;
  home_clock = OFF;
  in_call = false;
  d = dOver
}
#ifdef NOT_RESET
bool sends_on[2]; /* what had not left home when it broke off does so later */
#define HEARD_JUST_NOW(i) sends_on[i]
#else
#define HEARD_JUST_NOW(i) true
#endif
#define HOLDS_BODY(i) (g[i] == gServe || g[i] == gFreeze || g[i] == gSendHome || \
                       g[i] == gSendHop || g[i] == gSentHop)
/* KeptProcess::put_back: P is what it was when it left, and goes on, untraced. */
inline put_back() {
  p = pRuns;
  p_noted = left_noted;
  one_copy();
  exitkill = false;
  whole = false;
  home_clock = OFF;
  cur = NONE;
  d = dNone
}
/* Deputy::goes_back: home has said its last word, and what has not left home never does. The
 * body's lease counts from there, if it has not begun to end before. */
inline break_off() {
  if
  :: in_call -> in_call = false
  :: in_call ->
     take_effect(call_made);
     in_call = false
  :: !in_call
  fi;
  recalling = false;
  answer_due = false;
  source_gone = false;
  image = 0;
  if
#ifdef NOT_RESET
  :: cut_down[cur] -> sends_on[cur] = true
#else
  :: cut_down[cur] -> flush_down(cur)
#endif
  :: else
  fi;
  close_home_end(cur);
  if
  :: clock[cur] == OFF && HOLDS_BODY(cur) ->
     clock[cur] = 0;
     late[cur] = 0
  :: else
  fi;
  home_clock = 0;
#ifdef NO_WAIT_FOR_LEASE
  put_back()
#else
  d = dBodyLost
#endif
}
/* Deputy::lost: the body is. P goes on from where it left, or it ends, and its user is told.
 * Invariant 4: that takes a fault of the one guest, of its node or of its link; the target of a hop
 * may do what it will. `ended`: the guest has said that nothing of the body is left. */
inline lost(ended) {
  if
  :: p == pEnded -> over()
  :: p != pEnded && whole ->
     assert(blamed[cur]);
     break_off();
     if
     :: ended ->
        reach(WENT_BACK_AT_ONCE);
        put_back()
     :: else
     fi
  :: else ->
     assert(blamed[cur]);
     reach(LOSS);
#ifdef RESTARTS_ON_LOSS
     close_home_end(cur);
     cur = NONE;
     exitkill = false;
     p = pRuns;
     one_copy();
     d = dNone
#else
     p = pEnded;
     over();
     d = dLost
#endif
  fi
}
inline reply(end) {
  in_call = false;
  call_made = 0;
  tell_guest(cur, kReply, last_call, end)
}
/* HomeServer::begin_recall: a call under way has taken effect, or is cancelled. */
inline begin_recall() {
  recalling = true;
  if
  :: in_call -> reply(kHeld)
  :: in_call ->
     take_effect(call_made);
#ifdef RESULT_DROPPED_AT_RECALL
     reply(kHeld)
#else
     reply(kDone)
#endif
  :: !in_call
  fi
}
/* HomeThread::on_call */
inline on_call(number, what) {
  assert(!in_call && number > last_call);
  last_call = number;
  call_made = what;
  in_call = true;
#if !defined(EFFECT_COUNTS_AT_ITS_END) && !defined(GOES_BACK_PAST_AN_EFFECT)
  if
  :: !recalling -> whole = false /* Effects::call_begins */
  :: else
  fi;
#endif
  if
#ifndef LEAVES_IN_CALL
  :: recalling -> reply(kHeld)
#else
  :: recalling ->
     take_effect(call_made);
     reply(kDone)
#endif
  :: else
  fi
}
/* What a body, or its guest, still says while it is being moved. */
inline body_frame(word, number, what) {
  if
  :: word == kCall -> on_call(number, what)
  :: word == kAction -> p_noted = true
  :: word == kExit ->
     p = pEnded;
     over()
  :: else
  fi
}
/* Deputy::rebuild_at_home, up to the order. */
inline recall() {
  begin_recall();
  if
  :: true -> /* step deputy.home.call-settled */
     tell_guest(cur, kRecall, 0, kDone);
     answer_due = true;
     d = dTakeImage /* step deputy.home.recalled */
  :: faults > 0 ->
     faults--;
     d = dAwaitAnswer
  fi
}
/* Outbound::commit after its failure, end_body. */
inline give_up_commit() {
#ifdef HEARTBEAT_IN_DOUBT
  tell_guest(cur, kHeartbeat, 0, kDone);
#endif
  tell_guest(cur, kDiscard, 0, kDone);
#ifdef NO_WAIT_FOR_END
  undo()
#else
  d = dEndBody
#endif
}
inline fail_hop() {
  close_home_end(target);
  target = NONE;
  home_clock = OFF;
#ifdef FAILED_HOP_IS_LOSS
  lost(false)
#else
  d = dAwaitAnswer
#endif
}
inline give_up_hop() {
  tell_guest(target, kDiscard, 0, kDone);
#ifdef NO_WAIT_FOR_END_OF_HOP
  fail_hop()
#else
  d = dHopEndBody
#endif
}
inline finish_hop() {
  reach(HOP);
  if
  :: source_gone -> reach(MOVED_FROM_LOST_SOURCE)
  :: else
  fi;
  tell_guest(cur, kDiscard, 0, kDone);
  close_home_end(cur);
  cur = target;
  target = NONE;
  home_clock = OFF;
  last_call = 0; /* HomeServer::attach */
  in_call = false;
#ifndef ANSWER_STAYS_DUE
  answer_due = false;
#endif
  source_gone = false;
  recalling = false;
  tell_guest(cur, kHeartbeat, 0, kDone);
  d = dServe
}

active proctype Deputy() {
end:
  do
  /* Outbound. Of the guest's building of the body, the deputy sees only its answer. */
  :: atomic {
       d == dNone && p == pRuns && moves > 0 && (CAN_PLACE(0) || CAN_PLACE(1)) ->
       moves--; /* step migrated.home.linked, migrated.home.prepared, migrated.home.dialled */
       if /* step migrated.target.asked, migrated.target.placed, migrated.target.channel */
       :: CAN_PLACE(0) -> cur = 0
       :: CAN_PLACE(1) -> cur = 1
       fi;
       open_place(cur);
       answer_due = false;
       recalling = false;
       in_call = false;
       last_call = 0;
       d = dConnected /* step deputy.outbound.connected */
     }
  :: atomic {
       d == dConnected && p == pRuns -> /* step deputy.outbound.contents-sent */
       p = pStopped;
#ifdef EXITKILL_TOO_EARLY
       exitkill = true;
#endif
       d = dFrozen /* step deputy.outbound.frozen, deputy.outbound.captured */
     }
  :: atomic {
       d == dFrozen && p == pStopped -> /* step deputy.outbound.pages-sent */
       tell_guest(cur, kImageEnd, p_calls | (p_noted << 4), kDone);
       d = dAgree /* step deputy.outbound.image-sent */
     }
  :: atomic {
       d == dAgree && HEARS_GUEST(cur) ->
       to_home[cur]?m, n, k;
       if
       :: m == kReady && p == pStopped -> /* step deputy.outbound.ready */
#ifndef NO_EXITKILL
          exitkill = true;
#endif
          home_clock = 0;
          tell_guest(cur, kCommit, 0, kDone);
          d = dCommit /* step deputy.outbound.commit-sent */
       :: else -> undo()
       fi
     }
  :: atomic { (d == dConnected || d == dFrozen || d == dAgree) && LOST_GUEST(cur) -> undo() }
  :: atomic {
       (d == dConnected || d == dFrozen || d == dAgree) && faults > 0 ->
       faults--;
       undo()
     }
  :: atomic { (d == dConnected || d == dFrozen || d == dAgree) && p == pEnded -> undo() }
  :: atomic {
       d == dCommit && HEARS_GUEST(cur) ->
       to_home[cur]?m, n, k;
       if
       :: m == kRunning -> /* step deputy.outbound.running */
          if
          :: p == pStopped -> p = pHollow
          :: else
          fi;
          reach(OUTBOUND);
          whole = KEEP;
          left_noted = p_noted;
          home_clock = OFF;
          tell_guest(cur, kHeartbeat, 0, kDone);
          d = dServe /* step deputy.outbound.memory-dropped */
       :: m == kFailed || m == kEnded -> undo()
       :: else -> assert(false)
       fi
     }
  :: atomic {
       d == dCommit && (LOST_GUEST(cur) || home_clock >= RUN_PATIENCE) ->
       give_up_commit()
     }
  :: atomic {
       d == dCommit && faults > 0 ->
       faults--;
       give_up_commit()
     }
  :: atomic {
       d == dEndBody && HEARS_GUEST(cur) ->
       to_home[cur]?m, n, k;
       if
       :: m == kEnded || m == kFailed ->
          reach(COMMIT_UNDONE);
          undo()
#ifdef SERVES_IN_DOUBT
       :: m == kCall -> take_effect(k)
#endif
       :: else
       fi
     }
  :: atomic {
       d == dEndBody && home_end[cur] && LOST_GUEST(cur) ->
#ifdef CLOSED_IS_ENDED
       undo()
#else
       close_home_end(cur)
#endif
     }
  :: atomic {
       d == dEndBody && home_clock >= HOME_WAIT ->
       reach(LEASE_ENDED);
       undo()
     }

  /* Away. */
  :: atomic {
       d == dServe && p == pHollow && HEARS_GUEST(cur) ->
       to_home[cur]?m, n, k;
       if
       :: m == kNeedHome -> recall()
       :: m == kEnded || m == kFailed -> lost(true)
       :: else ->
          assert(m == kCall || m == kAction || m == kExit);
          body_frame(m, n, k)
       fi
     }
  :: atomic {
       d == dServe && p == pHollow && in_call ->
       take_effect(call_made);
       reply(kDone)
     }
  :: atomic {
       d == dServe && p == pHollow && in_call && disturbances > 0 ->
       disturbances--;
       reply(kDisturbed)
     }
  :: atomic { d == dServe && LOST_GUEST(cur) -> lost(false) }
  :: atomic {
       d == dServe && p == pHollow && moves > 0 ->
       moves--;
       recall()
     }
  :: atomic {
       d == dServe && p == pHollow && moves > 0 && CAN_PLACE(1 - cur) ->
       moves--;
       target = 1 - cur;
       open_place(target);
       d = dHopOpen
     }

  /* Homecoming. */
  :: atomic {
       d == dTakeImage && HEARS_GUEST(cur) ->
       to_home[cur]?m, n, k;
       if
       :: m == kImageEnd -> /* step deputy.home.laid-out, deputy.home.pages-taken */
          answer_due = false;
          image = n;
          d = dRebuild
       :: m == kFailed ->
          answer_due = false;
          d = dAwaitAnswer
       :: m == kEnded -> lost(true)
       :: else -> body_frame(m, n, k)
       fi
     }
  :: atomic { d == dTakeImage && LOST_GUEST(cur) -> lost(false) }
  :: atomic { /* until all of it has come, nothing is done to what was kept */
       (d == dTakeImage || d == dRebuild) && faults > 0 ->
       faults--;
       if
       :: d == dRebuild -> whole = false
       :: else
       fi;
       d = dAwaitAnswer
     }
  :: atomic {
       d == dRebuild && p == pHollow -> /* step deputy.home.loaded */
       p = pRuns;
       whole = false;
       p_calls = image & 15;
       p_noted = image >> 4;
       reach(HOMECOMING);
       one_copy();
       exitkill = false;
       tell_guest(cur, kDiscard, 0, kDone);
       close_home_end(cur);
       cur = NONE;
       image = 0;
       d = dNone /* step deputy.home.resumed */
     }
  /* Deputy::stay: the guest answers once; then the body goes on where it is. */
  :: atomic {
       d == dAwaitAnswer && answer_due && HEARS_GUEST(cur) ->
       to_home[cur]?m, n, k;
       if
       :: m == kImageEnd || m == kImageSent || m == kFailed -> answer_due = false
       :: m == kEnded -> lost(true)
       :: else -> body_frame(m, n, k)
       fi
     }
  :: atomic { d == dAwaitAnswer && LOST_GUEST(cur) -> lost(false) }
  :: atomic {
       d == dAwaitAnswer && !answer_due && p == pHollow ->
       reach(IMAGE_REFUSED);
       image = 0;
       tell_guest(cur, kImageRefused, 0, kDone);
       recalling = false;
       source_gone = false;
       d = dServe
     }

  /* Hop. */
  :: atomic {
       d == dHopOpen && p == pHollow -> /* step deputy.hop.connected */
       tell_guest(target, kHop, 0, kDone);
       begin_recall();
       tell_guest(cur, kHop, 0, kDone);
       answer_due = true;
       source_gone = false;
       d = dAwaitHop /* step deputy.hop.ordered */
     }
  :: atomic { d == dHopOpen && LOST_GUEST(target) -> fail_hop() }
  :: atomic {
       (d == dHopOpen || d == dAwaitHop) && faults > 0 ->
       faults--;
       fail_hop()
     }
  :: atomic {
       d == dAwaitHop && HEARS_GUEST(target) ->
       to_home[target]?m, n, k;
       if
       :: m == kReady -> /* step deputy.hop.ready */
          home_clock = 0;
          tell_guest(target, kCommit, 0, kDone);
          d = dCommitHop /* step deputy.hop.commit-sent */
       :: else -> fail_hop()
       fi
     }
  :: atomic {
       d == dAwaitHop && !source_gone && HEARS_GUEST(cur) ->
       to_home[cur]?m, n, k;
       if
       :: m == kImageSent -> answer_due = false
       :: m == kFailed ->
          answer_due = false;
          fail_hop()
       :: m == kEnded -> source_gone = true
       :: else -> body_frame(m, n, k)
       fi
     }
  :: atomic { d == dAwaitHop && !source_gone && LOST_GUEST(cur) -> source_gone = true }
  :: atomic { d == dAwaitHop && (source_gone || LOST_GUEST(target)) -> fail_hop() }
  :: atomic {
       d == dCommitHop && HEARS_GUEST(target) ->
       to_home[target]?m, n, k;
       if
       :: m == kRunning -> finish_hop() /* step deputy.hop.running */
       :: else -> fail_hop()
       fi
     }
  :: atomic {
       d == dCommitHop && (LOST_GUEST(target) || home_clock >= RUN_PATIENCE) ->
       give_up_hop()
     }
  :: atomic {
       d == dCommitHop && faults > 0 ->
       faults--;
       give_up_hop()
     }
  :: atomic {
       d == dHopEndBody && HEARS_GUEST(target) ->
       to_home[target]?m, n, k;
       if
       :: m == kEnded || m == kFailed ->
          reach(HOP_UNDONE);
          fail_hop()
       :: else
       fi
     }
  :: atomic { d == dHopEndBody && home_end[target] && LOST_GUEST(target) -> close_home_end(target) }
  :: atomic { d == dHopEndBody && home_clock >= HOME_WAIT -> fail_hop() }

  /* The body is lost, and P is to go on from where it left: Deputy::await_end_of_body. */
  :: atomic {
       d == dBodyLost && p == pHollow && home_clock >= HOME_WAIT ->
       reach(WENT_BACK);
       put_back()
     }
  :: atomic { /* what the node sends is not wanted any more: it has been revoked */
       d == dServe && p == pHollow && whole && faults > 0 ->
       faults--;
       blamed[cur] = true;
       break_off()
     }

  /* P has ended under the deputy's hands. */
  :: atomic {
       p == pEnded && (d == dServe || d == dTakeImage || d == dRebuild || d == dAwaitAnswer ||
                       d == dHopOpen || d == dAwaitHop || d == dBodyLost) ->
       over()
     }
  od
}

/* P at home makes the program's calls itself. */
active proctype P() {
end:
  do
  :: atomic {
       p == pRuns && d == dNone && p_calls < CALLS ->
       take_effect(p_calls);
       p_calls++
     }
  :: atomic { p == pRuns && d == dNone && !p_noted -> p_noted = true }
  od
}

/* ---------------------------------------------------------------------------- guests */

/* The body is built: its lease begins before home can hear of it. */
inline ready(i, content) {
  b_calls[i] = content & 15;
  b_noted[i] = content >> 4;
#ifdef RUNS_BEFORE_COMMIT
  b[i] = bRuns;
  one_copy();
#else
  b[i] = bBuilt;
#endif
  clock[i] = 0;
  tell_home(i, kReady, 0, 0);
  g[i] = gAwaitCommit /* step guest.image.ready-sent */
}
/* ThreadSupervisor::on_reply */
inline on_reply(i, number, how) {
#ifdef LEAVES_IN_CALL
  if
  :: b[i] != bInCall -> skip
  :: else ->
#endif
  assert(b[i] == bInCall && number == sequence[i]);
  if
  :: how == kDone ->
     assert(effects[b_calls[i]] == 1);
     b_calls[i]++;
     b[i] = bRuns
  :: how == kDisturbed -> b[i] = bRuns /* it makes the call again */
  :: how == kHeld -> b[i] = bFrozen    /* it makes the call again when it goes on */
  fi
#ifdef LEAVES_IN_CALL
  fi
#endif
}

inline forget(i) {
  close_guest_end(i);
  if
  :: nempty(hop_image[i]) -> hop_image[i]?_
  :: empty(hop_image[i])
  fi;
  b_calls[i] = 0;
  b_noted[i] = false;
  sequence[i] = 0;
  clock[i] = OFF;
  late[i] = 0;
  has_run[i] = false;
  from_guest[i] = false;
  leaves_home[i] = false;
  g[i] = gNone
}

/* BodyLease::hear: home's words make the lease begin anew, from when they came. A home that has
 * broken off sends none: what is heard then has come before. */
inline hear_home(i) {
  if
  :: home_end[i] ->
     clock[i] = OFF;
     late[i] = 0
#if defined(COUNTS_FROM_WHEN_IT_HEARS) || defined(NOT_RESET)
  :: !home_end[i] && clock[i] != OFF && HEARD_JUST_NOW(i) ->
     clock[i] = 0;
     late[i] = 0
#endif
  :: else
  fi
}

proctype Guest(byte i) {
end:
  do
  /* Guest::take_image */
  :: atomic {
       g[i] == gTakeImage && HEARS_HOME(i) ->
       to_guest[i]?m, n, e; /* step guest.image.begun, guest.image.place-made */
       if
       :: m == kHop -> from_guest[i] = true
       :: m == kImageEnd -> ready(i, n) /* step guest.image.laid-out, guest.image.pages-taken */
       :: else -> g[i] = gEnd
       fi /* step guest.image.loaded */
     }
  :: atomic {
       g[i] == gTakeImage && from_guest[i] && nempty(hop_image[i]) && !cut_hop ->
       hop_image[i]?n;
       ready(i, n)
     }
  :: atomic { /* the source has gone, or cannot be heard */
       g[i] == gTakeImage && from_guest[i] &&
         (cut_hop || (empty(hop_image[i]) && (g[1 - i] == gNone || g[1 - i] == gKilled))) ->
       g[i] = gEnd
     }
  :: atomic {
       (g[i] == gTakeImage || g[i] == gCommitted) && faults > 0 ->
       faults--;
       g[i] = gEnd
     }
  /* Guest::await_commit */
  :: atomic {
       g[i] == gAwaitCommit && HEARS_HOME(i) ->
       to_guest[i]?m, n, e;
       if
       :: m == kCommit ->
#ifdef LEASE_FROM_COMMIT
          clock[i] = 0;
#endif
          g[i] = gCommitted /* step guest.image.committed */
       :: else -> g[i] = gEnd
       fi
     }
  :: atomic { g[i] == gAwaitCommit && clock[i] >= COMMIT_PATIENCE -> g[i] = gEnd }
  :: atomic { /* a guest that was slow finds its lease over before it has let the body run */
       g[i] == gCommitted ->
       if
#ifndef RUNS_WITHOUT_LEASE
       :: clock[i] >= LEASE -> g[i] = gEnd
#endif
       :: else ->
          b[i] = bRuns;
          one_copy();
          has_run[i] = true;
          tell_home(i, kRunning, 0, 0);
#ifndef NOT_DECLARED_ANEW
          /* What the source has said of the program may never have reached home. */
          if
          :: from_guest[i] && b_noted[i] -> tell_home(i, kAction, 0, 0)
          :: else
          fi;
#endif
          g[i] = gServe /* step guest.image.running */
       fi
     }

  /* Guest::serve */
  :: atomic {
       g[i] == gServe && b[i] == bRuns && b_calls[i] < CALLS ->
       sequence[i]++;
       tell_home(i, kCall, sequence[i], b_calls[i]);
       b[i] = bInCall
     }
  :: atomic {
       g[i] == gServe && b[i] == bRuns && !b_noted[i] ->
       b_noted[i] = true;
       tell_home(i, kAction, 0, 0)
     }
  :: atomic {
       g[i] == gServe && b[i] == bRuns && needs > 0 ->
       needs--;
       b[i] = bFrozen;
       tell_home(i, kNeedHome, 0, 0)
     }
  :: atomic {
       EXITS && g[i] == gServe && b[i] == bRuns && b_calls[i] == CALLS ->
       b[i] = bExiting;
       tell_home(i, kExit, 0, 0)
     }
  :: atomic {
       g[i] == gServe && HEARS_HOME(i) ->
       to_guest[i]?m, n, e;
       hear_home(i);
       if
       :: m == kHeartbeat
       :: m == kReply -> on_reply(i, n, e)
       :: m == kRecall || m == kHop ->
          leaves_home[i] = (m == kRecall);
          g[i] = gFreeze /* step guest.leave.asked */
       :: m == kImageRefused ->
#ifdef REFUSED_IMAGE_DISCARDS
          g[i] = gEnd
#else
          if
#ifndef GOES_ON_WITHOUT_LEASE
          :: clock[i] != OFF && clock[i] >= LEASE -> g[i] = gEnd
          :: b[i] == bFrozen && (clock[i] == OFF || clock[i] < LEASE) ->
#else
          :: b[i] == bFrozen ->
#endif
             b[i] = bRuns;
             one_copy()
          :: else
          fi
#endif
       :: m == kDiscard -> g[i] = gEnd /* step guest.leave.discarded */
       :: else -> assert(false)
       fi
     }
  :: atomic { /* Guest::beat, or LeaseAlarm */
       (g[i] == gServe || g[i] == gFreeze) && clock[i] != OFF && clock[i] >= LEASE ->
       blamed[i] = true; /* home was silent for a lease */
       g[i] = gEnd
     }

  /* BodySupervisor::freeze: the answer to a call under way comes first. */
  :: atomic {
       g[i] == gFreeze && b[i] == bInCall && HEARS_HOME(i) ->
       to_guest[i]?m, n, e;
       hear_home(i);
       if
       :: m == kReply -> on_reply(i, n, e)
       :: m == kHeartbeat
       :: else -> /* unexpected */
          tell_home(i, kFailed, 0, 0);
          g[i] = gServe
       fi
     }
  :: atomic {
       g[i] == gFreeze &&
#ifdef LEAVES_IN_CALL
         b[i] != bExiting ->
#else
         b[i] != bExiting && b[i] != bInCall ->
#endif
#ifdef HOP_WITHOUT_FREEZE
       if
       :: leaves_home[i] -> b[i] = bFrozen
       :: else
       fi;
#else
       b[i] = bFrozen;
#endif
       g[i] = (leaves_home[i] -> gSendHome : gSendHop) /* step guest.leave.frozen */
     }
  :: atomic { g[i] == gFreeze && b[i] == bExiting -> g[i] = gServe }
  :: atomic {
#ifdef LEASE_RENEWED_BY_GUEST
       g[i] == gFreeze && b[i] != bInCall && b[i] != bExiting -> /* besides the fault */
#else
       g[i] == gFreeze && faults > 0 && b[i] != bInCall && b[i] != bExiting ->
       faults--;
#endif
       tell_home(i, kFailed, 0, 0); /* and the body has not stopped */
#ifdef LEASE_RENEWED_BY_GUEST
       if
       :: clock[i] != OFF ->
          clock[i] = 0;
          late[i] = 0
       :: else
       fi;
#endif
       g[i] = gServe
     }

  /* Guest::leave_for_home, Guest::leave_for */
  :: atomic {
       g[i] == gSendHome ->
       tell_home(i, kImageEnd, IMAGE_OF(i), 0);
       g[i] = gServe /* step guest.leave.image-sent */
     }
  :: atomic {
       g[i] == gSendHop && g[1 - i] == gTakeImage && !cut_hop && empty(hop_image[1 - i]) ->
       hop_image[1 - i]!IMAGE_OF(i); /* step guest.leave.connected */
       g[i] = gSentHop
     }
  :: atomic {
       g[i] == gSentHop ->
       tell_home(i, kImageSent, 0, 0);
       g[i] = gServe
     }
  :: atomic { /* no way to the target; or it is not known whether all of the image has arrived */
       (g[i] == gSendHop || g[i] == gSentHop) && (cut_hop || g[1 - i] != gTakeImage) ->
       tell_home(i, kFailed, 0, 0);
       g[i] = gServe
     }
  :: atomic {
       (g[i] == gSendHome || g[i] == gSendHop || g[i] == gSentHop) && faults > 0 ->
       faults--;
       tell_home(i, kFailed, 0, 0);
       g[i] = gServe
     }

  /* It notices that home is lost. */
  :: atomic {
       g[i] != gNone && g[i] != gEnd && g[i] != gKilled && guest_end[i] && LOST_HOME(i) ->
       close_guest_end(i);
       g[i] = gEnd
     }
  /* Guest::run, after it has served: nothing of the body is left, and home is told, if it hears. */
  :: atomic {
       g[i] == gEnd ->
       b[i] = bNone;
       if
       :: has_run[i] -> tell_home(i, kEnded, 0, 0)
       :: else -> tell_home(i, kFailed, 0, 0)
       fi;
       forget(i)
     }
  /* One that is killed takes its body along, but its connection may close a little before. */
  :: atomic {
       g[i] == gKilled ->
       b[i] = bNone;
       forget(i)
     }
  od
}

/* ---------------------------------------------------------------------------- time and faults */

/* A body runs on past its lease, or without its guest, for less than a tick. */
#ifdef HANGS_PAST_ITS_LEASE
#define KEEPS_LEASE(i) (g[i] == gServe)
#else
#define KEEPS_LEASE(i) (g[i] == gServe || g[i] == gFreeze)
#endif
#define OVERDUE(i) (RUNS(i) && (g[i] == gEnd || g[i] == gKilled || \
                                (KEEPS_LEASE(i) && clock[i] != OFF && clock[i] >= LEASE)))
#define TICKS(i) (clock[i] != OFF && clock[i] < LEASE)

inline tick(i) {
  if
  :: TICKS(i) -> clock[i]++
  :: TICKS(i) && late[i] < DRIFT -> late[i]++
  :: !TICKS(i)
  fi
}

active proctype Time() {
end:
  do
  :: atomic {
       (TICKS(0) || TICKS(1) || (home_clock != OFF && home_clock < HOME_WAIT)) &&
         !OVERDUE(0) && !OVERDUE(1) ->
       tick(0);
       tick(1);
       if
       :: home_clock != OFF && home_clock < HOME_WAIT -> home_clock++
       :: else
       fi
     }
  od
}

#define LIVES(i) (g[i] != gNone && g[i] != gKilled && g[i] != gEnd)
#define CONNECTED(i) (home_end[i] && guest_end[i])

inline cut_off(i) {
  cut_down[i] = true;
  cut_up[i] = true;
  stays_cut[i] = true;
  blamed[i] = true
}
inline kill_guest(i) {
  blamed[i] = true;
  close_guest_end(i);
  g[i] = gKilled
}
/* Without a word to anybody. */
inline kill_node(i) {
  node_dead[i] = true;
  cut_off(i);
  b[i] = bNone;
  forget(i)
}
inline cut(i) {
  blamed[i] = true;
  if
  :: cut_down[i] = true
  :: cut_up[i] = true
  :: cut_down[i] = true; cut_up[i] = true
  fi;
  if
  :: stays_cut[i] = true
  :: skip
  fi
}
inline cut_between() {
  cut_hop = true;
  if
  :: hop_stays_cut = true
  :: skip
  fi
}
inline leave_home() {
  home_clock = OFF;
  close_home_end(0);
  close_home_end(1);
  target = NONE;
  cur = NONE;
  in_call = false
}
inline kill_deputy() {
  if
  :: p == pEnded -> skip
  :: exitkill && p != pEnded ->
     /* Invariant 4: before the commit, P outlives it. */
     assert(d != dConnected && d != dFrozen && d != dAgree);
     p = pEnded;
     said = true /* by migrated: Moves::deputy_died */
  :: !exitkill && p != pEnded ->
     p = pRuns; /* a tracee whose tracer has gone runs on */
     one_copy()
  fi;
  leave_home();
  d = (p == pRuns -> dNone : dDead)
}

active proctype Faults() {
end:
  do
  :: atomic { faults > 0 && DEPUTY_LIVES -> faults--; kill_deputy() }
  :: atomic { /* kill(1) by its user */
       faults > 0 && DEPUTY_LIVES && p != pEnded ->
       faults--;
       p = pEnded;
       said = true
     }
  :: atomic { /* the home node dies */
       faults > 0 && DEPUTY_LIVES ->
       faults--;
       p = pEnded;
       said = true;
       cut_off(0);
       cut_off(1);
       leave_home();
       d = dDead
     }
  :: atomic { faults > 0 && LIVES(0) -> faults--; kill_guest(0) }
  :: atomic { faults > 0 && LIVES(1) -> faults--; kill_guest(1) }
  :: atomic { faults > 0 && LIVES(0) -> faults--; kill_node(0) }
  :: atomic { faults > 0 && LIVES(1) -> faults--; kill_node(1) }
  :: atomic { faults > 0 && CONNECTED(0) && LINKED(0) -> faults--; cut(0) }
  :: atomic { faults > 0 && CONNECTED(1) && LINKED(1) -> faults--; cut(1) }
  :: atomic { faults > 0 && target != NONE && !cut_hop -> faults--; cut_between() }
  :: atomic { /* sooner or later */
       (cut_down[0] || cut_up[0]) && !stays_cut[0] ->
       cut_down[0] = false;
       cut_up[0] = false
     }
  :: atomic {
       (cut_down[1] || cut_up[1]) && !stays_cut[1] ->
       cut_down[1] = false;
       cut_up[1] = false
     }
  :: atomic { cut_hop && !hop_stays_cut -> cut_hop = false }
  od
}

/* Invariant 5, where nothing can happen any more. */
#define GONE(i) (g[i] == gNone && b[i] == bNone)
#define ALL_DONE(calls) (calls == CALLS && (CALLS == 0 || effects[0] == 1) && \
                         (CALLS < 2 || effects[1] == 1))
#define AT_HOME (p == pRuns && d == dNone && GONE(0) && GONE(1) && ALL_DONE(p_calls))
#define AWAY(i) (p == pHollow && d == dServe && cur == i && b[i] == bRuns && GONE(1 - i) && \
                 ALL_DONE(b_calls[i]) && p_noted == b_noted[i])
#define ENDED (p == pEnded && said && GONE(0) && GONE(1))

active proctype Settled() {
  timeout ->
  assert(AT_HOME || AWAY(0) || AWAY(1) || ENDED)
}

init {
  atomic {
    run Guest(0);
    run Guest(1)
  }
}
