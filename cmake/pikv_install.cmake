# SPDX-FileCopyrightText: 2026 The PiKV Authors
# SPDX-License-Identifier: Apache-2.0
#
# `cmake --install` and find_package(pikv).

get_property(libraries GLOBAL PROPERTY PIKV_LIBRARIES)
install(TARGETS ${libraries} pikv EXPORT pikv_targets)
install(EXPORT pikv_targets NAMESPACE pikv:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/pikv)
foreach(folder kernels core routing compression scheduling distillation launch)
  install(DIRECTORY ${folder} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/pikv
          FILES_MATCHING PATTERN "*.hpp")
endforeach()
install(DIRECTORY models/shapes DESTINATION ${CMAKE_INSTALL_DATADIR}/pikv)
configure_package_config_file(
  cmake/pikv-config.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/pikv-config.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/pikv)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/pikv-config-version.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/pikv-config.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/pikv-config-version.cmake
              cmake/pikv_dependencies.cmake DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/pikv)
