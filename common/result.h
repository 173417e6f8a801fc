// Errors as values: a result is a T, or an errno with the words for what was being done.
#pragma once

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
#include <variant>

namespace drover {

/// What failed and why. `code` is an errno value, or 0 when the kernel gave none.
struct Error {
  int code = 0;
  std::string what;

  /// One line for a person: "what: why".
  std::string message() const { return code ? what + ": " + std::strerror(code) : what; }

  /// The same error, said from one level further out: "outer: inner".
  Error within(const std::string& outer) const { return {code, outer + ": " + what}; }
};

/// An error carrying the current errno.
inline Error errno_error(std::string what) { return {errno, std::move(what)}; }

/// An error of our own, with no errno behind it.
inline Error refusal(std::string why) { return {0, std::move(why)}; }

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& operator*() & { return std::get<0>(state_); }
  const T& operator*() const& { return std::get<0>(state_); }
  T&& operator*() && { return std::get<0>(std::move(state_)); }
  T* operator->() { return &std::get<0>(state_); }
  const T* operator->() const { return &std::get<0>(state_); }

  const Error& error() const { return std::get<1>(state_); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)), failed_(true) {}

  bool ok() const { return !failed_; }
  explicit operator bool() const { return ok(); }
  const Error& error() const { return error_; }

 private:
  Error error_;
  bool failed_ = false;
};

using Status = Result<void>;

}  // namespace drover

/// Gives up with the error of `expression` if it failed.
#define DROVER_CHECK(expression)                                                            \
  do {                                                                                      \
    if (auto drover_status_ = (expression); !drover_status_) return drover_status_.error(); \
  } while (0)

#define DROVER_CONCAT_(a, b) a##b
#define DROVER_CONCAT(a, b) DROVER_CONCAT_(a, b)
#define DROVER_TRY_(temporary, declaration, expression) \
  auto temporary = (expression);                        \
  if (!temporary) return temporary.error();             \
  declaration = *std::move(temporary)

/// `DROVER_TRY(auto x, f());` binds x to f's value, or gives up with f's error.
#define DROVER_TRY(declaration, expression) \
  DROVER_TRY_(DROVER_CONCAT(drover_result_, __LINE__), declaration, expression)
