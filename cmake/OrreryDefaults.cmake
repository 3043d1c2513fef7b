# Build type, output folders, warnings, compiler cache: what every target of this project shares.
if(PROJECT_IS_TOP_LEVEL)
  if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
  endif()
  set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
  set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
  set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
  find_program(ORRERY_CCACHE ccache)
  if(ORRERY_CCACHE)
    # Precompiled headers need these sloppiness settings; base_dir lets several checkouts share the cache. (-fpch-deps, which
    # ccache's manual asks for, makes GCC 12's preprocessor crash; CMake's own dependency on the .gch does its work.)
    set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${ORRERY_CCACHE})
  endif()
endif()

set(CMAKE_CXX_EXTENSIONS OFF)
# LibTorch was built with NDEBUG, and at::RecordFunction has a member more without it: who sees the class must agree.
add_compile_definitions($<$<CONFIG:Debug>:NDEBUG>)
add_compile_options(-Wall -Wextra -Wno-missing-field-initializers)
if(ORRERY_SANITIZE)
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
endif()
