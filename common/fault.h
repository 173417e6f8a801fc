// The named steps of the move protocol, at which tests make things go wrong.
//
// The environment variable DROVER_FAULT (set by migrated from its configuration key `fault`)
// holds STEP:ACTION, several separated by commas. Actions: `fail` (the step reports an error),
// `kill` (SIGKILL to the program itself), `delay=MS`. A step may be met by several programs;
// the prefix says whose it is.
#pragma once

#include <array>
#include <string_view>

#include "common/result.h"

namespace drover {

inline constexpr std::array kFaultPoints = {
    // The deputy, home to remote.
    std::string_view("deputy.outbound.connected"),
    std::string_view("deputy.outbound.contents-sent"),
    std::string_view("deputy.outbound.frozen"),
    std::string_view("deputy.outbound.captured"),
    std::string_view("deputy.outbound.pages-sent"),
    std::string_view("deputy.outbound.image-sent"),
    std::string_view("deputy.outbound.ready"),
    std::string_view("deputy.outbound.commit-sent"),
    std::string_view("deputy.outbound.running"),
    std::string_view("deputy.outbound.memory-dropped"),
    // The guest, taking an image.
    std::string_view("guest.image.begun"),
    std::string_view("guest.image.place-made"),
    std::string_view("guest.image.laid-out"),
    std::string_view("guest.image.pages-taken"),
    std::string_view("guest.image.loaded"),
    std::string_view("guest.image.ready-sent"),
    std::string_view("guest.image.committed"),
    std::string_view("guest.image.running"),
    // The guest, sending its body's image home or to another guest.
    std::string_view("guest.leave.asked"),
    std::string_view("guest.leave.frozen"),
    std::string_view("guest.leave.connected"),
    std::string_view("guest.leave.image-sent"),
    std::string_view("guest.leave.discarded"),
    // The deputy, bringing a process home.
    std::string_view("deputy.home.call-settled"),
    std::string_view("deputy.home.recalled"),
    std::string_view("deputy.home.laid-out"),
    std::string_view("deputy.home.pages-taken"),
    std::string_view("deputy.home.loaded"),
    std::string_view("deputy.home.resumed"),
    // The deputy, between two remote nodes.
    std::string_view("deputy.hop.connected"),
    std::string_view("deputy.hop.ordered"),
    std::string_view("deputy.hop.ready"),
    std::string_view("deputy.hop.commit-sent"),
    std::string_view("deputy.hop.running"),
    // migrated at home, on the way to the order that its deputy gets.
    std::string_view("migrated.home.linked"),
    std::string_view("migrated.home.prepared"),
    std::string_view("migrated.home.dialled"),
    // migrated at the target: a place asked for, and the channel to it.
    std::string_view("migrated.target.asked"),
    std::string_view("migrated.target.placed"),
    std::string_view("migrated.target.channel"),
};

/// A step, checked at compile time to be in the list above.
class FaultPoint {
 public:
  consteval FaultPoint(const char* name) : name_(name) {
    for (const std::string_view known : kFaultPoints) {
      if (known == name_) return;
    }
    throw "no such fault point";
  }
  constexpr std::string_view name() const { return name_; }

 private:
  std::string_view name_;
};

/// Passes a step: does what DROVER_FAULT says about it, nothing as a rule.
Status fault_point(FaultPoint point);

}  // namespace drover
