#include "layers/side_stream.h"

#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace orrery::layers {
namespace {

c10::Device with_index(c10::Device device) {
  if (device.has_index()) return device;
  return {device.type(), c10::impl::VirtualGuardImpl(device.type()).getDevice().index()};
}

void wait(const c10::Stream& waiting, const c10::Stream& other) {
  c10::Event event(other.device_type());
  event.record(other);
  event.block(waiting);
}

}  // namespace

bool SideStream::exists_on(c10::Device device) {
  // A device of an extension may have streams and no events.
  return device.is_cuda() || device.is_privateuseone();
}

SideStream::SideStream(c10::Device device)
    : stream_(c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(with_index(device))) {}

void SideStream::follow() const {
  wait(stream_, c10::impl::VirtualGuardImpl(stream_.device_type()).getStream(stream_.device()));
}

SideStream::Use::Use(const SideStream& side)
    : side_(side.stream_), current_(c10::impl::VirtualGuardImpl(side_.device_type()).getStream(side_.device())) {
  wait(current_, side_);
}

SideStream::Use::~Use() {
  try {
    wait(side_, current_);
  } catch (...) {  // a device that is lost says so at the next operation
  }
}

}  // namespace orrery::layers
