#include "kernels/fsq.h"

namespace orrery::kernels {

void fsq_cpu(const Fsq& p, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) fsq_row(p, row);
}

}  // namespace orrery::kernels
