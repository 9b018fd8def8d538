# SPDX-License-Identifier: GPL-2.0-or-later
#
# For Nix: nix-build -E '(import <nixpkgs> {}).callPackage ./nat64.nix {}' in build/recipes (make recipes). Nobody has built this
# yet; what was tested is that Nix can read it.
{ lib, stdenv, bpftools, clang, jansson, libbpf, libmnl, pkg-config, zlib }:

stdenv.mkDerivation {
  pname = "nat64";
  version = "@VERSION@";
  src = ./. + "/nat64-@VERSION@.tar.gz";

  nativeBuildInputs = [ bpftools clang pkg-config ];
  buildInputs = [ jansson libbpf libmnl zlib ];
  # What these add is not for programs of the kernel.
  hardeningDisable = [ "zerocallusedregs" "stackprotector" "fortify" ];
  postPatch = "patchShebangs tests/deps";
  enableParallelBuilding = true;

  # /etc and all else below $out, where the units are told of
  installFlags = [ "DESTDIR=$(out)" "PREFIX=" ];
  postInstall = ''
    substituteInPlace $out/lib/systemd/system/nat64*.service --replace-warn /sbin/nat64 $out/sbin/nat64
    find $out/etc -type f -name '*nat64' -exec sed -i "s|/sbin/nat64|$out/sbin/nat64|g" {} +
  '';

  meta = {
    description = "In-kernel translator by which IPv6-only hosts reach IPv4";
    license = with lib.licenses; [ gpl2Plus gpl2Only ];
    platforms = lib.platforms.linux;
    mainProgram = "nat64";
  };
}
