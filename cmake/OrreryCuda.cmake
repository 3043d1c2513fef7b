# ORRERY_CUDA: AUTO builds kernels/cuda where there are a CUDA toolkit and an NVIDIA GPU, ON wherever there is a toolkit, and
# insists on one; OFF does not look.
# The kernels are a library of their own, liborrery_cuda.so, which the core loads when there is a GPU: the core itself links
# nothing of CUDA.
set(ORRERY_CUDA AUTO CACHE STRING "Build the CUDA kernels: AUTO, ON or OFF")
set_property(CACHE ORRERY_CUDA PROPERTY STRINGS AUTO ON OFF)

file(GLOB_RECURSE orrery_cuda_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/kernels/cuda/*.cu)
if(ORRERY_CUDA STREQUAL "OFF")
  message(STATUS "CUDA kernels: switched off")
  return()
endif()
if(ORRERY_CUDA STREQUAL "AUTO" AND NOT EXISTS /dev/nvidiactl)
  message(STATUS "CUDA kernels: not built, there is no NVIDIA GPU here (-DORRERY_CUDA=ON builds them all the same)")
  return()
endif()
include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  if(NOT ORRERY_CUDA STREQUAL "AUTO")
    message(FATAL_ERROR "ORRERY_CUDA is ON and no CUDA compiler was found; set CMAKE_CUDA_COMPILER to nvcc's path")
  endif()
  message(STATUS "CUDA kernels: not built, no CUDA compiler was found")
else()
  message(STATUS "CUDA kernels: built with ${CMAKE_CUDA_COMPILER}")
  # Machine code for each generation since Ampere, and PTX for those to come.
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 86-real 89-real 90-real 100-real 120)
  endif()
  enable_language(CUDA)
  add_library(orrery_cuda SHARED ${orrery_cuda_sources})
  target_include_directories(orrery_cuda PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}
    ${CMAKE_CURRENT_SOURCE_DIR}/kernels/cuda/device)
  # Without the folder's options, which nvcc does not know; with the newest C++ that CMake 3.25 knows of nvcc 13.
  set_target_properties(orrery_cuda PROPERTIES COMPILE_OPTIONS "" CUDA_STANDARD 17 CUDA_STANDARD_REQUIRED ON
    VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
    CXX_VISIBILITY_PRESET hidden CUDA_VISIBILITY_PRESET hidden)
  # LibTorch's CUDA graphs, for a LibTorch that has them: compiled against its headers, resolved when it is loaded.
  if(EXISTS ${ORRERY_TORCH_INCLUDE}/ATen/core/GraphImplInterface.h AND
     EXISTS ${ORRERY_TORCH_INCLUDE}/c10/cuda/impl/cuda_cmake_macros.h)
    add_library(orrery_cuda_graph MODULE src/ops/module/cuda_graph.cpp)
    target_compile_features(orrery_cuda_graph PRIVATE cxx_std_20)
    target_include_directories(orrery_cuda_graph SYSTEM PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
    target_link_libraries(orrery_cuda_graph PRIVATE orrery::torch)
    set_target_properties(orrery_cuda_graph PROPERTIES CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
    add_dependencies(orrery_cuda orrery_cuda_graph)
  endif()
endif()
