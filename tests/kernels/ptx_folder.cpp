#include "kernels/ptx_folder.h"

namespace orrery::testing {

std::string ptx_folder() {
  return ORRERY_PTX;
}

}  // namespace orrery::testing
