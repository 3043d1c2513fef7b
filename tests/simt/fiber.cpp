#include "simt/fiber.h"

#include <sys/mman.h>

#include <new>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace orrery::simt {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kStack = 512 << 10;
#else
constexpr size_t kStack = 128 << 10;
#endif

#if defined(__x86_64__)
// Pushes what a callee must keep, stores the stack pointer, takes the other one, pops. (swapcontext makes a system call each
// time and takes thirty times as long.)
extern "C" void orrery_switch_stack(void** from, void* to);
asm(R"(
.text
.type orrery_switch_stack, @function
orrery_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size orrery_switch_stack, . - orrery_switch_stack
)");
#endif

}  // namespace

struct Fiber::Machine {
  char* stack = nullptr;
  std::function<void()> body;
  bool ended = true;
#if defined(__x86_64__)
  void* inside = nullptr;
  void* outside = nullptr;
#else
  ucontext_t inside, outside;
#endif
  void* fake_inside = nullptr;  // AddressSanitizer's own stacks
  void* fake_outside = nullptr;
  const void* outside_stack = nullptr;
  size_t outside_size = 0;

  static thread_local Machine* starting;
  static void entry() {
    Machine& self = *starting;
    self.entered();
    self.body();
    self.ended = true;
    self.leave(true);
    __builtin_unreachable();
  }

  void entered() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake_inside, &outside_stack, &outside_size);
#endif
  }
  void leave(bool for_good) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(for_good ? nullptr : &fake_inside, outside_stack, outside_size);
#endif
    (void)for_good;
#if defined(__x86_64__)
    orrery_switch_stack(&inside, outside);
#else
    swapcontext(&inside, &outside);
#endif
    entered();
  }
  void enter() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&fake_outside, stack, kStack);
#endif
    starting = this;
#if defined(__x86_64__)
    orrery_switch_stack(&outside, inside);
#else
    swapcontext(&outside, &inside);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake_outside, nullptr, nullptr);
#endif
  }
};

thread_local Fiber::Machine* Fiber::Machine::starting = nullptr;

Fiber::Fiber() : machine_(std::make_unique<Machine>()) {
  void* memory = mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  machine_->stack = static_cast<char*>(memory);
}

Fiber::~Fiber() {
  munmap(machine_->stack, kStack);
}

void Fiber::start(std::function<void()> body) {
  Machine& m = *machine_;
  m.body = std::move(body);
  m.ended = false;
  m.fake_inside = nullptr;
#if defined(__x86_64__)
  auto** top = reinterpret_cast<void**>(m.stack + kStack);
  *--top = nullptr;  // the stack is 8 off a multiple of 16 where a function begins
  *--top = reinterpret_cast<void*>(&Machine::entry);
  for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
  m.inside = top;
#else
  getcontext(&m.inside);
  m.inside.uc_stack.ss_sp = m.stack;
  m.inside.uc_stack.ss_size = kStack;
  m.inside.uc_link = nullptr;
  makecontext(&m.inside, &Machine::entry, 0);
#endif
}

bool Fiber::resume() {
  machine_->enter();
  return machine_->ended;
}

void Fiber::pause() {
  machine_->leave(false);
}

}  // namespace orrery::simt
