# orrery::torch: only libtorch_cpu and libc10, of the first torch folder found among
#   ORRERY_LIBTORCH (CMake or environment variable), what an installed orrery was built with, CMAKE_PREFIX_PATH,
#   the torch of an active Python environment, the copy that third_party/setup.sh unpacked from the PyPI wheel.
# Used by the build and, installed beside orreryConfig.cmake, by find_package(orrery). Without a LibTorch,
# ORRERY_LIBTORCH_PROBLEM says what to do.
set(ORRERY_LIBTORCH "" CACHE PATH "A torch folder that holds include/ and lib/")
set(_orrery_cache "$ENV{XDG_CACHE_HOME}")
if(NOT _orrery_cache)
  set(_orrery_cache "$ENV{HOME}/.cache")
endif()
set(_orrery_places ${ORRERY_LIBTORCH} $ENV{ORRERY_LIBTORCH} ${ORRERY_LIBTORCH_BUILT_WITH} ${CMAKE_PREFIX_PATH})
string(REPLACE ":" ";" _orrery_environment "$ENV{CMAKE_PREFIX_PATH}")
list(APPEND _orrery_places ${_orrery_environment})
foreach(_variable VIRTUAL_ENV CONDA_PREFIX)
  if(DEFINED ENV{${_variable}})
    file(GLOB _orrery_environment "$ENV{${_variable}}/lib/python3*/site-packages/torch")
    list(APPEND _orrery_places ${_orrery_environment})
  endif()
endforeach()
list(APPEND _orrery_places ${_orrery_cache}/orrery/libtorch-2.15.0/torch)

find_path(ORRERY_TORCH_INCLUDE ATen/core/Tensor.h HINTS ${_orrery_places} PATH_SUFFIXES include torch/include NO_DEFAULT_PATH)
find_library(ORRERY_TORCH_CPU torch_cpu HINTS ${_orrery_places} PATH_SUFFIXES lib torch/lib NO_DEFAULT_PATH)
find_library(ORRERY_TORCH_C10 c10 HINTS ${_orrery_places} PATH_SUFFIXES lib torch/lib NO_DEFAULT_PATH)
mark_as_advanced(ORRERY_TORCH_INCLUDE ORRERY_TORCH_CPU ORRERY_TORCH_C10)

unset(ORRERY_LIBTORCH_PROBLEM)
if(NOT ORRERY_TORCH_INCLUDE OR NOT ORRERY_TORCH_CPU OR NOT ORRERY_TORCH_C10)
  set(ORRERY_LIBTORCH_PROBLEM "LibTorch was not found; run third_party/setup.sh, or pass -DORRERY_LIBTORCH=<torch folder>")
else()
  set(_orrery_version_header ${ORRERY_TORCH_INCLUDE}/torch/headeronly/version.h)
  set(ORRERY_TORCH_VERSION 0)
  if(EXISTS ${_orrery_version_header})
    file(STRINGS ${_orrery_version_header} _orrery_lines REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
    string(REGEX REPLACE "[^0-9;]" "" _orrery_lines "${_orrery_lines}")
    string(REPLACE ";" "." ORRERY_TORCH_VERSION "${_orrery_lines}")
  endif()
  if(ORRERY_TORCH_VERSION VERSION_LESS 2.11)
    set(ORRERY_LIBTORCH_PROBLEM "the LibTorch in ${ORRERY_TORCH_INCLUDE} is too old, 2.11 is needed (2.15 is tested); \
leave its Python environment, or pass -DORRERY_LIBTORCH=<torch folder>")
  endif()
endif()

if(NOT ORRERY_LIBTORCH_PROBLEM AND NOT TARGET orrery::torch)
  get_filename_component(ORRERY_TORCH_LIBRARY_DIR ${ORRERY_TORCH_CPU} DIRECTORY)
  add_library(orrery::torch INTERFACE IMPORTED GLOBAL)
  set_target_properties(orrery::torch PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES ${ORRERY_TORCH_INCLUDE}
    INTERFACE_LINK_LIBRARIES "${ORRERY_TORCH_CPU};${ORRERY_TORCH_C10}")
endif()
