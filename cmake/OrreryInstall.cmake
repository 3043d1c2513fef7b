# cmake --install: the library, its headers, the program, find_package(orrery CONFIG) and pkg-config. The installed tree may
# be moved; LibTorch stays where it was found, and ORRERY_LIBTORCH names another one.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(orrery_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/orrery)

set_target_properties(orrery PROPERTIES INSTALL_RPATH "$ORIGIN;${ORRERY_TORCH_LIBRARY_DIR}")
install(TARGETS orrery EXPORT orreryTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS orrery_sentencepiece LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
foreach(part orrery_cuda orrery_cuda_graph)
  if(TARGET ${part})
    install(TARGETS ${part} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  endif()
endforeach()
install(DIRECTORY include/orrery DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(FILES LICENSE third_party/NOTICE.md DESTINATION ${CMAKE_INSTALL_DOCDIR})

install(EXPORT orreryTargets NAMESPACE orrery:: DESTINATION ${orrery_package_dir})
configure_package_config_file(cmake/orreryConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/orreryConfig.cmake
  INSTALL_DESTINATION ${orrery_package_dir} NO_SET_AND_CHECK_MACRO NO_CHECK_REQUIRED_COMPONENTS_MACRO)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/orreryConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/orreryConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/orreryConfigVersion.cmake
  cmake/OrreryLibTorch.cmake DESTINATION ${orrery_package_dir})

# The way from the folder of orrery.pc back to the prefix, so that the file needs no absolute path.
file(RELATIVE_PATH orrery_pc_to_prefix ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
configure_file(cmake/orrery.pc.in ${CMAKE_CURRENT_BINARY_DIR}/orrery.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/orrery.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
