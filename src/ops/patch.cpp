#include "ops/patch.h"

#include <ATen/ATen.h>

#include "kernels/patch.h"
#include "ops/dispatch.h"

namespace orrery::ops {
namespace {

void check_form(Operands& operands, const PatchForm& form) {
  operands.require(form.pt >= 1 && form.pt <= 64 && form.ps >= 1 && form.ps <= 64, "form", "has sides that no patch has",
                   "1 to 64", std::to_string(form.pt) + "x" + std::to_string(form.ps));
  operands.require(!form.haar || (form.ps == 2 && form.pt <= 2), "form", "has sides that Haar's transform does not",
                   "2x2 or 2x2x2", std::to_string(form.pt) + "x" + std::to_string(form.ps));
  operands.require(form.lead >= 0 && form.lead < form.pt, "form", "leads with more frames than a patch has",
                   "less than " + std::to_string(form.pt), std::to_string(form.lead));
}

Operands checked(const char* op, const char* name, const at::Tensor& x, int64_t dims) {
  Operands operands(op);
  operands.first(name, x, {at::kFloat, at::kBFloat16, at::kHalf});
  operands.also(name, x, x.scalar_type(), std::vector<int64_t>(static_cast<size_t>(dims), -1));
  return operands;
}

int64_t divided(Operands& operands, const at::Tensor& x, int64_t dim, int64_t by, int64_t more = 0) {
  operands.require((x.size(dim) + more) % by == 0, "x", "does not split into patches", "a multiple of " + std::to_string(by),
                   std::to_string(x.size(dim) + more));
  return (x.size(dim) + more) / by;
}

void move(Operands operands, const at::Tensor& pixels, const at::Tensor& patches, const PatchForm& form, bool to_pixels) {
  kernels::Patch p;
  p.type = number_of(pixels.scalar_type());
  p.to_pixels = to_pixels;
  p.haar = form.haar;
  p.pt = static_cast<int>(form.pt);
  p.ps = static_cast<int>(form.ps);
  p.lead = static_cast<int>(form.lead);
  p.batch = pixels.size(0);
  p.channels = pixels.size(1);
  p.t = patches.size(5);
  p.h = patches.size(6);
  p.w = patches.size(7);
  int64_t* const of_pixels[] = {&p.pixel_batch, &p.pixel_channel, &p.pixel_frame, &p.pixel_row};
  for (int64_t dim = 0; dim < 4; ++dim) *of_pixels[dim] = pixels.stride(dim);
  int64_t* const of_patches[] = {&p.patch_batch, &p.patch_channel, &p.patch_kt, &p.patch_ky,
                                 &p.patch_kx,    &p.patch_t,       &p.patch_h,  &p.patch_w};
  for (int64_t dim = 0; dim < 8; ++dim) *of_patches[dim] = patches.stride(dim);
  p.in = (to_pixels ? patches : pixels).const_data_ptr();
  p.out = (to_pixels ? pixels : patches).mutable_data_ptr();
  if (operands.on_gpu())
    operands.run_on_gpu("orrery_cuda_patch", p);
  else
    spread(p.batch * p.channels * p.t * p.h * p.w, 2048,
           [&](int64_t begin, int64_t end) { kernels::patch_cpu(p, begin, end); });
}

// [B,K·C,t,h,w] as [B,C,pt,ps,ps,t,h,w]
at::Tensor planes(const at::Tensor& patches, int64_t channels, const PatchForm& form) {
  return patches
      .view({patches.size(0), form.pt, form.ps, form.ps, channels, patches.size(2), patches.size(3), patches.size(4)})
      .permute({0, 4, 1, 2, 3, 5, 6, 7});
}

}  // namespace

at::Tensor patch(const at::Tensor& pixels, const PatchForm& form) {
  Operands operands = checked("patch", "x", pixels, 5);
  operands.rows("x", pixels);
  check_form(operands, form);
  const int64_t channels = pixels.size(1), t = divided(operands, pixels, 2, form.pt, form.lead),
                h = divided(operands, pixels, 3, form.ps), w = divided(operands, pixels, 4, form.ps);
  const at::Tensor out = at::empty({pixels.size(0), form.pt * form.ps * form.ps * channels, t, h, w}, pixels.options());
  move(operands, pixels, planes(out, channels, form), form, false);
  return out;
}

at::Tensor unpatch(const at::Tensor& patches, const PatchForm& form) {
  Operands operands = checked("unpatch", "x", patches, 5);
  operands.contiguous("x", patches);
  check_form(operands, form);
  const int64_t channels = divided(operands, patches, 1, form.pt * form.ps * form.ps);
  const at::Tensor out = at::empty({patches.size(0), channels, patches.size(2) * form.pt - form.lead,
                                    patches.size(3) * form.ps, patches.size(4) * form.ps},
                                   patches.options());
  move(operands, out, planes(patches, channels, form), form, true);
  return out;
}

void patch_into(const at::Tensor& pixels, const at::Tensor& patches, const PatchForm& form) {
  Operands operands = checked("patch_into", "pixels", pixels, 5);
  operands.rows("pixels", pixels);
  check_form(operands, form);
  operands.also("patches", patches, pixels.scalar_type(),
                {pixels.size(0), pixels.size(1), form.pt, form.ps, form.ps, -1, -1, -1});
  operands.also("pixels", pixels, pixels.scalar_type(),
                {-1, -1, patches.size(5) * form.pt - form.lead, patches.size(6) * form.ps, patches.size(7) * form.ps});
  move(operands, pixels, patches, form, false);
}

void unpatch_into(const at::Tensor& patches, const at::Tensor& pixels, const PatchForm& form) {
  Operands operands = checked("unpatch_into", "patches", patches, 8);
  check_form(operands, form);
  operands.also("patches", patches, patches.scalar_type(), {-1, -1, form.pt, form.ps, form.ps, -1, -1, -1});
  operands.also("pixels", pixels, patches.scalar_type(),
                {patches.size(0), patches.size(1), patches.size(5) * form.pt - form.lead, patches.size(6) * form.ps,
                 patches.size(7) * form.ps});
  operands.rows("pixels", pixels);
  move(operands, pixels, patches, form, true);
}

}  // namespace orrery::ops
