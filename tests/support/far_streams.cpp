#include "support/far_streams.h"

#include <ATen/ATen.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <sys/mman.h>

#include <algorithm>
#include <new>
#include <utility>

namespace orrery::testing {

int64_t& FarOrder::current_stream() {
  static thread_local int64_t stream = 0;
  return stream;
}

void FarOrder::join(Clock& clock, const Clock& other) {
  for (const auto& [stream, time] : other) clock[stream] = std::max(clock[stream], time);
}

int64_t FarOrder::new_stream() {
  const std::lock_guard lock(mutex_);
  return ++count_;
}

void FarOrder::touch(Uses& uses, bool writes) {
  const std::lock_guard lock(mutex_);
  const int64_t stream = current_stream();
  Clock& clock = streams_[stream];
  join(clock, host_);
  ++clock[stream];
  for (const auto& [other, time] : writes ? uses.last : uses.wrote) counted_.races += other != stream && clock[other] < time;
  bool beside = false;
  for (auto& [other, theirs] : streams_) beside |= other != stream && clock[other] < theirs[other];
  counted_.beside += beside;
  uses.last[stream] = clock[stream];
  if (writes) uses.wrote[stream] = clock[stream];
}

FarOrder::Uses FarOrder::allocated() {
  const std::lock_guard lock(mutex_);
  const int64_t stream = current_stream();
  Clock& clock = streams_[stream];
  join(clock, host_);
  for (const auto& [other, time] : std::exchange(free_[stream], {}))
    counted_.races += other != stream && clock[other] < time;
  return {stream, {}, {}};
}

void FarOrder::released(const Uses& uses) {
  const std::lock_guard lock(mutex_);
  join(free_[uses.owner], uses.last);
}

FarOrder::Clock FarOrder::record(int64_t stream) {
  const std::lock_guard lock(mutex_);
  join(streams_[stream], host_);
  return streams_[stream];
}

void FarOrder::wait(int64_t stream, const Clock& event) {
  const std::lock_guard lock(mutex_);
  join(streams_[stream], event);
}

void FarOrder::host_waits() {
  const std::lock_guard lock(mutex_);
  ++counted_.host_waits;
  join(host_, streams_[current_stream()]);
}

void FarOrder::uploaded(int64_t bytes, bool pinned) {
  const std::lock_guard lock(mutex_);
  (pinned ? counted_.uploaded_pinned : counted_.uploaded_pageable) += bytes;
}

FarStreams FarOrder::take() {
  const std::lock_guard lock(mutex_);
  return std::exchange(counted_, {});
}

FarOrder& far_order() {
  static auto* made = new FarOrder;  // outlives every tensor
  return *made;
}

FarStreams take_far_streams() {
  return far_order().take();
}

namespace {

constexpr c10::DeviceType kFar = c10::DeviceType::PrivateUse1;

c10::Stream stream_of(int64_t id) {
  return c10::Stream(c10::Stream::UNSAFE, c10::Device(kFar, 0), id);
}

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kFar; }
  c10::Device exchangeDevice(c10::Device) const override { return {kFar, 0}; }
  c10::Device getDevice() const override { return {kFar, 0}; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  c10::Stream getStream(c10::Device) const override { return stream_of(far_order().current()); }
  c10::Stream getDefaultStream(c10::Device) const override { return stream_of(0); }
  c10::Stream getStreamFromGlobalPool(c10::Device, bool) const override { return stream_of(far_order().new_stream()); }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    const c10::Stream before = stream_of(far_order().current());
    far_order().make_current(stream.id());
    return before;
  }
  void record(void** event, const c10::Stream& stream, c10::DeviceIndex, c10::EventFlag) const override {
    if (!*event) *event = new FarOrder::Clock;
    *static_cast<FarOrder::Clock*>(*event) = far_order().record(stream.id());
  }
  void block(void* event, const c10::Stream& stream) const override {
    far_order().wait(stream.id(), *static_cast<FarOrder::Clock*>(event));
  }
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void* event, c10::DeviceIndex) const noexcept override { delete static_cast<FarOrder::Clock*>(event); }
  void synchronizeStream(const c10::Stream&) const override { far_order().host_waits(); }
  void synchronizeDevice(c10::DeviceIndex) const override { far_order().host_waits(); }
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

// Memory of the processor that the device would read by itself; LibTorch is asked for it by address.
class Pinned final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    void* begin = mmap(nullptr, std::max<size_t>(bytes, 1), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (begin == MAP_FAILED) throw std::bad_alloc();
    const std::lock_guard lock(mutex_);
    pieces_[static_cast<char*>(begin)] = std::max<size_t>(bytes, 1);
    return {begin, begin, raw_deleter(), c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override;
  void copy_data(void* to, const void* from, size_t bytes) const override { memcpy(to, from, bytes); }
  bool holds(const void* address) const {
    const std::lock_guard lock(mutex_);
    const auto after = pieces_.upper_bound(static_cast<char*>(const_cast<void*>(address)));
    if (after == pieces_.begin()) return false;
    const auto& [begin, bytes] = *std::prev(after);
    return static_cast<const char*>(address) < begin + bytes;
  }
  void free(void* begin) {
    const std::lock_guard lock(mutex_);
    munmap(begin, pieces_.extract(static_cast<char*>(begin)).mapped());
  }

 private:
  mutable std::mutex mutex_;
  std::map<char*, size_t> pieces_;
};

Pinned& pinned() {
  static auto* made = new Pinned;
  return *made;
}

c10::DeleterFnPtr Pinned::raw_deleter() const {
  return [](void* begin) { pinned().free(begin); };
}

struct Hooks final : at::PrivateUse1HooksInterface {
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  bool isPinnedPtr(const void* address) const override { return pinned().holds(address); }
  at::Allocator* getPinnedMemoryAllocator() const override { return &pinned(); }
};

}  // namespace

bool reads_by_itself(const void* address) {
  return pinned().holds(address);
}

void register_far_streams() {
  if (!at::isPrivateUse1HooksRegistered()) at::RegisterPrivateUse1HooksInterface(new Hooks);
}

}  // namespace orrery::testing
