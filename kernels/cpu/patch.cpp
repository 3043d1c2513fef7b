#include "kernels/patch.h"

#include "kernels/common/dispatch.h"

namespace orrery::kernels {

void patch_cpu(const Patch& p, int64_t begin, int64_t end) {
  for_float_type(p.type, [&](auto number) {
    for (int64_t cell = begin; cell < end; ++cell) move_cell<decltype(number)>(p, cell);
  });
}

}  // namespace orrery::kernels
