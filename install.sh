#!/bin/sh
# Builds and installs the library for C: header, static and shared library with soname, pkg-config and CMake files, udpl.
#
#   ./install.sh [--prefix P] [--libdir L] [--destdir D] [--from DIR]
#
#   --prefix P    where it will live (/usr/local)
#   --libdir L    libraries (P/lib), e.g. /usr/lib/x86_64-linux-gnu
#   --destdir D   put in front of every path, for packagers
#   --from DIR    take librtcp.a, librtcp.so and udpl from DIR instead of building them
set -eu
root=$(cd "$(dirname "$0")" && pwd)
prefix=/usr/local libdir='' destdir='' from=''

usage() { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
while [ $# -gt 0 ]; do
    case $1 in --prefix | --libdir | --destdir | --from) [ $# -ge 2 ] || usage ;; *) usage ;; esac
    case $1 in
    --prefix) prefix=${2%/} ;;
    --libdir) libdir=${2%/} ;;
    --destdir) destdir=${2%/} ;;
    --from) from=$2 ;;
    esac
    shift 2
done
libdir=${libdir:-$prefix/lib}
case $prefix$libdir in /*) ;; *) echo "install.sh: --prefix and --libdir are absolute paths" >&2; exit 2 ;; esac

version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)
soname=librtcp.so.${version%%.*}
file=librtcp.so.$version

if [ -z "$from" ]; then
    (cd "$root" && cargo build --release)
    from=$(cd "$root" && mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd)/release
fi

bin=$destdir$prefix/bin include=$destdir$prefix/include lib=$destdir$libdir
mkdir -p "$bin" "$include/rtcp" "$lib/pkgconfig" "$lib/cmake/rtcp"
# RTP's own RTCP is popular: <rtcp/rtcp.h> is there for programs that have another rtcp.h.
install -m 644 "$root/include/rtcp.h" "$include/rtcp.h"
install -m 644 "$root/include/rtcp.h" "$include/rtcp/rtcp.h"
install -m 644 "$from/librtcp.a" "$lib/librtcp.a"
install -m 755 "$from/librtcp.so" "$lib/$file"
ln -sf "$file" "$lib/$soname"
ln -sf "$soname" "$lib/librtcp.so"
install -m 755 "$from/udpl" "$bin/udpl"

# What Rust's standard library needs of the system (rustc --print native-static-libs).
private='gcc_s util rt pthread m dl c'

cat >"$lib/pkgconfig/rtcp.pc" <<END
prefix=$prefix
libdir=$libdir
includedir=\${prefix}/include

Name: rtcp
Description: Reliable, ordered byte streams: TCP in user space over UDP
Version: $version
Cflags: -I\${includedir}
Libs: -L\${libdir} -lrtcp
Libs.private:$(printf ' -l%s' $private)
END

# The CMake files find everything relative to themselves where they can, so that an installed tree may be moved.
case $libdir in
"$prefix"/*) up=$(printf '%s' "${libdir#"$prefix"/}" | sed 's,[^/][^/]*,..,g') include_dir="\${rtcp_libdir}/$up/include" ;;
*) include_dir=$prefix/include ;;
esac
cat >"$lib/cmake/rtcp/rtcpConfig.cmake" <<END
# find_package(rtcp) gives rtcp::rtcp (shared) and rtcp::rtcp_static.
get_filename_component(rtcp_libdir "\${CMAKE_CURRENT_LIST_DIR}/../.." ABSOLUTE)
get_filename_component(rtcp_includedir "$include_dir" ABSOLUTE)
if(NOT TARGET rtcp::rtcp)
  add_library(rtcp::rtcp SHARED IMPORTED)
  set_target_properties(rtcp::rtcp PROPERTIES
    IMPORTED_LOCATION "\${rtcp_libdir}/$file"
    IMPORTED_SONAME "$soname"
    INTERFACE_INCLUDE_DIRECTORIES "\${rtcp_includedir}")
  add_library(rtcp::rtcp_static STATIC IMPORTED)
  set_target_properties(rtcp::rtcp_static PROPERTIES
    IMPORTED_LOCATION "\${rtcp_libdir}/librtcp.a"
    IMPORTED_LINK_INTERFACE_LANGUAGES "C"
    INTERFACE_INCLUDE_DIRECTORIES "\${rtcp_includedir}"
    INTERFACE_LINK_LIBRARIES "$(printf '%s' "$private" | tr ' ' ';')")
endif()
END
# As long as the major version is 0, a new minor version may break programs.
cat >"$lib/cmake/rtcp/rtcpConfigVersion.cmake" <<END
set(PACKAGE_VERSION "$version")
string(REGEX MATCH "^[0-9]+\\\\.[0-9]+" rtcp_series "\${PACKAGE_FIND_VERSION}.0")
if("\${rtcp_series}" STREQUAL "${version%.*}" AND NOT PACKAGE_VERSION VERSION_LESS PACKAGE_FIND_VERSION)
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
  if(PACKAGE_VERSION VERSION_EQUAL PACKAGE_FIND_VERSION)
    set(PACKAGE_VERSION_EXACT TRUE)
  endif()
endif()
END
echo "rtcp $version is in $destdir$prefix (libraries in $lib)"
