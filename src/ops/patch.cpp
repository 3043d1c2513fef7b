#include "ops/patch.h"

#include <ATen/ATen.h>

#include "kernels/patch.h"
#include "ops/dispatch.h"

namespace orrery::ops {
namespace {

at::Tensor moved(const char* op, const at::Tensor& in, const PatchForm& form, bool to_pixels) {
  Operands operands(op);
  operands.first("x", in, {at::kFloat, at::kBFloat16, at::kHalf}).also("x", in, in.scalar_type(), {-1, -1, -1, -1, -1});
  operands.contiguous("x", in);
  operands.require(form.pt >= 1 && form.pt <= 64 && form.ps >= 1 && form.ps <= 64, "form", "has sides that no patch has",
                   "1 to 64", std::to_string(form.pt) + "x" + std::to_string(form.ps));
  operands.require(!form.haar || (form.ps == 2 && form.pt <= 2), "form", "has sides that Haar's transform does not",
                   "2x2 or 2x2x2", std::to_string(form.pt) + "x" + std::to_string(form.ps));
  const int64_t count = form.pt * form.ps * form.ps;
  const auto divides = [&](int64_t dim, int64_t by) {
    operands.require(in.size(dim) % by == 0, "x", "does not split into patches", "a multiple of " + std::to_string(by),
                     std::to_string(in.size(dim)));
    return in.size(dim) / by;
  };
  kernels::Patch p;
  p.type = number_of(in.scalar_type());
  p.to_pixels = to_pixels;
  p.haar = form.haar;
  p.pt = static_cast<int>(form.pt);
  p.ps = static_cast<int>(form.ps);
  p.batch = in.size(0);
  p.channels = to_pixels ? divides(1, count) : in.size(1);
  p.t = to_pixels ? in.size(2) : divides(2, form.pt);
  p.h = to_pixels ? in.size(3) : divides(3, form.ps);
  p.w = to_pixels ? in.size(4) : divides(4, form.ps);
  const at::Tensor out = to_pixels
                             ? at::empty({p.batch, p.channels, p.t * form.pt, p.h * form.ps, p.w * form.ps}, in.options())
                             : at::empty({p.batch, p.channels * count, p.t, p.h, p.w}, in.options());
  p.in = in.const_data_ptr();
  p.out = out.mutable_data_ptr();
  if (operands.on_gpu())
    operands.run_on_gpu("orrery_cuda_patch", p);
  else
    spread(p.batch * p.channels * p.t * p.h * p.w, 2048,
           [&](int64_t begin, int64_t end) { kernels::patch_cpu(p, begin, end); });
  return out;
}

}  // namespace

at::Tensor patch(const at::Tensor& pixels, const PatchForm& form) {
  return moved("patch", pixels, form, false);
}
at::Tensor unpatch(const at::Tensor& patches, const PatchForm& form) {
  return moved("unpatch", patches, form, true);
}

}  // namespace orrery::ops
