#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "orrery/config.h"
#include "orrery/export.h"

namespace orrery {

struct ModelDescription;  ///< orrery/load.h

/// What a world's actions are: one row of `width` numbers a step, in the simulator's (or the data set's) own units. Plain
/// data.
struct ORRERY_API ActionSpace {
  std::string name;                                  ///< of the world
  bool discrete = false;                             ///< a row is one index
  int64_t width = 1;                                 ///< A, numbers in a row; 0 in a world that follows words alone
  int64_t rows_per_step = 1;                         ///< most rows that one step takes; a single row is held for all of it
  std::vector<std::string> names;                    ///< of the numbers
  std::vector<double> low, high;                     ///< range of each number; empty: any finite number
  std::string units, normalisation;                  ///< for people
  double rate_hz = 0;                                ///< steps a second of the simulator
  std::map<std::string, std::vector<double>> named;  ///< rows that have a name ("move forward", "left")
  std::vector<double> idle;                          ///< the row when nothing is pressed; empty: the last row stays

  // How a person gives them. Keys are a browser's KeyboardEvent.key.
  std::map<std::string, std::string> keys;  ///< key → named row
  bool keys_add = false;                    ///< rows of keys held together add up; otherwise the newest key counts
  std::map<std::string, std::vector<double>> key_deltas;  ///< key → how far it moves the last row, each step
  std::vector<int64_t> pointer;  ///< the numbers that follow a pointer's x and y over the picture, low … high
  /// Of a camera that a pointer turns, in place of low … high: the two numbers at the right and the lower edge. In the
  /// middle, and when the pointer is let go, they are those of `idle`. Empty: they stay where the pointer was.
  std::vector<double> pointer_turn;

  /// Reads action_space.json. Throws Error(kConfig) where ranges, names and rows do not fit each other.
  static ActionSpace read(const Config& config);

  /// Throws Error(kArgument) unless `row` holds `width` numbers (or up to `rows_per_step` whole rows of them), finite, in
  /// range and, for a discrete space, whole. `place` names the row in the message ("action", "actions: row 7").
  void check(const std::vector<double>& row, const std::string& place = "action") const;

  /// The row that a named action means. Throws Error(kArgument) listing the known names.
  std::vector<double> encode(const std::string& name) const;
};

/// The action space of a described world, without loading its weights; nothing for what is no world.
ORRERY_API std::optional<ActionSpace> describe_action_space(const ModelDescription& model);

}  // namespace orrery
