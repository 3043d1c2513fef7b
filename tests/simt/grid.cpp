// Blocks, threads, barriers, shuffles and asynchronous copies of the emulation.
#include <algorithm>
#include <cstdio>
#include <deque>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "simt/fiber.h"
#include "simt/simt.h"

namespace orrery::simt {
namespace {

enum class State { kReady, kBarrier, kWarp, kEnded };

struct Copy {
  void* to;
  const void* from;
};

struct Thread {
  dim3 index;
  State state = State::kReady;
  const char* meeting = nullptr;  // what the lanes of the warp meet for
  void* argument = nullptr;
  std::vector<std::vector<Copy>> groups;  // asynchronous copies, the last group still open
};

// What a thread throws to leave its body when another one has broken a rule.
struct Abandoned {};

class Block {
 public:
  Block(dim3 grid, unsigned size, Order order) : grid_(grid), size_(size), order_(order), threads_(size) {
    while (fibers().size() < size) fibers().push_back(std::make_unique<Fiber>());
    for (unsigned i = 0; i < size; ++i) threads_[i].index = dim3(i, 0, 0);
  }

  void run(dim3 index, const std::function<void()>& body) {
    index_ = index;
    shared_.reset();
    shared_size_ = 0;
    problem_.clear();
    for (unsigned i = 0; i < size_; ++i) {
      threads_[i] = {dim3(i, 0, 0), State::kReady, nullptr, nullptr, {{}}};
      fibers()[i]->start([this, &body, i] {
        try {
          body();
        } catch (const Abandoned&) {
        } catch (const std::exception& error) {
          complain(error.what());
        }
        if (problem_.empty() && (threads_[i].groups.size() > 1 || !threads_[i].groups.back().empty()))
          for (const auto& group : threads_[i].groups)
            if (!group.empty()) complain("ends with asynchronous copies that it never waited for");
        threads_[i].state = State::kEnded;
      });
    }
    std::vector<unsigned> turns(size_);
    std::iota(turns.begin(), turns.end(), 0);
    if (order_ == Order::kBackward) std::reverse(turns.begin(), turns.end());
    for (bool any = true; any;) {
      if (order_ == Order::kShuffled) std::shuffle(turns.begin(), turns.end(), random_);
      any = false;
      for (const unsigned i : turns) {
        if (threads_[i].state == State::kEnded || (threads_[i].state != State::kReady && problem_.empty())) continue;
        any = true;
        current_ = i;
        fibers()[i]->resume();
      }
      if (!any && problem_.empty()) any = name_the_stuck();
    }
    if (!problem_.empty()) throw std::runtime_error(problem_);
  }

  void complain(const std::string& what) {
    if (!problem_.empty()) return;
    problem_ = "thread " + std::to_string(current_) + " of block (" + std::to_string(index_.x) + ", " +
               std::to_string(index_.y) + ", " + std::to_string(index_.z) + ") " + what;
  }
  [[noreturn]] void fail(const std::string& what) {
    complain(what);
    throw Abandoned();
  }

  void barrier() {
    me().state = State::kBarrier;
    if (std::all_of(threads_.begin(), threads_.end(), [](const Thread& t) { return t.state == State::kBarrier; }))
      for (Thread& thread : threads_) thread.state = State::kReady;
    else
      wait();
  }

  void meet_warp(const char* what, void* argument, void (*complete)(void* const (&)[32])) {
    const unsigned first = current_ / 32 * 32;
    if (first + 32 > size_) fail(std::string(what) + ": its warp is not full");
    me().state = State::kWarp;
    me().meeting = what;
    me().argument = argument;
    bool all = true;
    for (unsigned lane = 0; lane < 32; ++lane) {
      const Thread& other = threads_[first + lane];
      if (other.state == State::kWarp && std::string(other.meeting) != what)
        fail(std::string(what) + ": lane " + std::to_string(lane) + " is at " + other.meeting);
      all &= other.state == State::kWarp;
    }
    if (!all) return wait();
    void* arguments[32];
    for (unsigned lane = 0; lane < 32; ++lane) arguments[lane] = threads_[first + lane].argument;
    complete(arguments);
    for (unsigned lane = 0; lane < 32; ++lane) threads_[first + lane].state = State::kReady;
  }

  void* shared_bytes(size_t size) {
    if (!shared_) {
      shared_ = std::make_unique<unsigned char[]>(size);
      shared_size_ = size;
      std::memset(shared_.get(), 0xFF, size);  // NaN as a float of any width
    }
    if (size != shared_size_) fail("asks for shared memory of another size");
    if (size > (48 << 10)) fail("asks for more than 48 KiB of shared memory");
    return shared_.get();
  }

  bool is_shared(const void* address, size_t size) const {
    const auto* byte = static_cast<const unsigned char*>(address);
    return shared_ && byte >= shared_.get() && byte + size <= shared_.get() + shared_size_;
  }

  Thread& me() { return threads_[current_]; }
  const dim3& index() const { return index_; }
  const dim3& grid() const { return grid_; }
  const dim3& size() const { return size_dim_; }

 private:
  // Fibers outlive a launch: their stacks are the costly part.
  static std::vector<std::unique_ptr<Fiber>>& fibers() {
    static thread_local std::vector<std::unique_ptr<Fiber>> pool;
    return pool;
  }

  void wait() {
    const unsigned i = current_;
    fibers()[i]->pause();
    if (!problem_.empty()) throw Abandoned();
  }

  // Nobody can go on: true if there was somebody, who then has to leave.
  bool name_the_stuck() {
    for (unsigned i = 0; i < size_; ++i) {
      if (threads_[i].state == State::kEnded) continue;
      current_ = i;
      complain(threads_[i].state == State::kBarrier ? "waits at a barrier that not all threads reach"
                                                    : std::string(threads_[i].meeting) + ": not all lanes of its warp come");
      return true;
    }
    return false;
  }

  dim3 grid_, index_;
  unsigned size_;
  dim3 size_dim_{size_};
  Order order_;
  std::vector<Thread> threads_;
  unsigned current_ = 0;
  std::unique_ptr<unsigned char[]> shared_;
  size_t shared_size_ = 0;
  std::string problem_;
  std::minstd_rand random_{7};
};

thread_local Block* block = nullptr;

}  // namespace

Setting& setting() {
  static thread_local Setting setting;
  return setting;
}

const dim3& thread_index() {
  return block->me().index;
}
const dim3& block_index() {
  return block->index();
}
const dim3& block_size() {
  return block->size();
}
const dim3& grid_size() {
  return block->grid();
}
void* shared_bytes(size_t size) {
  return block->shared_bytes(size);
}
void barrier() {
  block->barrier();
}
void meet_warp(const char* what, void* argument, void (*complete)(void* const (&)[32])) {
  block->meet_warp(what, argument, complete);
}

void shuffle_bits(uint64_t& value, int lane, bool exclusive_or) {
  struct Argument {
    uint64_t value;
    int lane;
    uint64_t result;
  } mine{value, lane, 0};
  if (lane < 0 || lane > 31) block->fail("shuffles with a lane outside 0 to 31");
  const auto by_mask = [](void* const(&all)[32]) {
    for (int i = 0; i < 32; ++i) {
      auto* argument = static_cast<Argument*>(all[i]);
      argument->result = static_cast<Argument*>(all[i ^ argument->lane])->value;
    }
  };
  const auto by_lane = [](void* const(&all)[32]) {
    for (int i = 0; i < 32; ++i) {
      auto* argument = static_cast<Argument*>(all[i]);
      argument->result = static_cast<Argument*>(all[argument->lane])->value;
    }
  };
  if (exclusive_or)
    meet_warp("shuffle_xor", &mine, by_mask);
  else
    meet_warp("shuffle", &mine, by_lane);
  value = mine.result;
}

void copy_async16(void* to, const void* from, bool valid) {
  if (!block->is_shared(to, 16)) block->fail("copies to what is not shared memory");
  if (reinterpret_cast<uintptr_t>(to) % 16 != 0 || (valid && reinterpret_cast<uintptr_t>(from) % 16 != 0))
    block->fail("copies 16 bytes that are not aligned to 16");
  const Copy copy{to, valid ? from : nullptr};
  block->me().groups.back().push_back(copy);
  std::memset(to, 0xFF, 16);
  if (setting().copies_at_once) valid ? std::memcpy(to, from, 16) : std::memset(to, 0, 16);
}

void copies_commit() {
  block->me().groups.emplace_back();
}

void wait_for_copies(int pending) {
  auto& groups = block->me().groups;
  while (static_cast<int>(groups.size()) > pending + 1) {
    if (!setting().copies_at_once)
      for (const Copy& copy : groups.front()) copy.from ? std::memcpy(copy.to, copy.from, 16) : std::memset(copy.to, 0, 16);
    groups.erase(groups.begin());
  }
}

void run_grid(dim3 grid, unsigned size, const std::function<void()>& body) {
  if (size == 0 || size > 1024) throw std::runtime_error("a block has 1 to 1024 threads");
  if (!possible(grid)) throw std::runtime_error("the grid is empty or too large");
  const Order order = setting().order;
  Block here(grid, size, order);
  Block* const outer = block;
  block = &here;
  const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
  try {
    const uint64_t run = setting().last_blocks > 0 ? std::min(setting().last_blocks, blocks) : blocks, first = blocks - run;
    for (uint64_t turn = 0; turn < run; ++turn) {
      const uint64_t i = first + (order == Order::kForward ? turn : run - 1 - turn);
      here.run(dim3(i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y), body);
    }
  } catch (...) {
    block = outer;
    throw;
  }
  block = outer;
}

}  // namespace orrery::simt
