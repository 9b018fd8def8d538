# SPDX-License-Identifier: GPL-2.0-or-later
#
# make              ./nat64, one file to copy; V=1 shows the commands, WERROR=1 makes warnings errors
# make install      to $(DESTDIR)$(PREFIX); uninstall takes it away again
# make clean        remove what was built
# make dist         build/nat64-VERSION.tar.gz, the sources as git has them or as they were unpacked: the same bytes each time
# make deb          build/nat64_VERSION_ARCHITECTURE.deb, of that archive
# make rpm          build/nat64-VERSION-1.ARCHITECTURE.rpm
# make recipes      build/recipes: what Arch, Alpine, OpenWrt and Nix build packages by
# make static       build/nat64-VERSION-ARCH, a static binary for routers; ARCHS='amd64 arm64 armhf riscv64' for others
# sudo make deps    install what building takes; demo, test and test-kernels install what they need themselves
# sudo make demo    watch an IPv6-only client reach an IPv4-only server
# sudo make test    all tests, on this kernel
# sudo make fuzz    a million random packets, translated and compared with RFC 7915 in Python; N=packets, SEED=text
# sudo make bench   how fast it is, against plain IPv4 forwarding; ARGS=--help
# sudo make dashboard  docs/dashboard.svg: dist/grafana.json drawn, with what Prometheus says of two translators; ten minutes
# make test-kernels under other kernels, in virtual machines: the packets of RFC 7915 on each and a share of the other
#                   tests, or with FULL=1 all tests on each, for hours without KVM; KERNELS='5.10 6.1' for some
# make test-boot    in a virtual machine that boots: systemd, three managers of networks, and the package from installation to purge
# make test-machines on machines of other processors, in virtual machines: arm64, armhf, riscv64, s390x; MACHINES=s390x for one,
#                   FEW=1 with fewer configurations, in about two minutes each
# make lint         clang-format, sparse, cppcheck, shellcheck, mandoc

VERSION	:= 0.1.0# here and nowhere else
PREFIX	?= /usr/local
SBINDIR	?= $(PREFIX)/sbin
MANDIR	?= $(PREFIX)/share/man
COMPDIR	?= $(PREFIX)/share/bash-completion/completions
ZSHDIR	?= $(PREFIX)/share/zsh/site-functions
FISHDIR	?= $(PREFIX)/share/fish/vendor_completions.d
UNITDIR	?= $(PREFIX)/lib/systemd/system
CONFDIR	:= /etc/nat64# as the unit has it
RULESDIR ?= $(PREFIX)/lib/udev/rules.d
# Who runs hooks looks for them there only.
HOOKDIR	?= $(if $(filter /usr,$(PREFIX)),/usr/lib,/etc)

CLANG		?= clang
PKG_CONFIG	?= pkg-config
# Some distributions keep bpftool in /usr/sbin, and Ubuntu's there runs with Ubuntu's own kernels only.
BPFTOOL		?= $(shell for b in bpftool /usr/sbin/bpftool /usr/lib/linux-tools*/*/bpftool; do \
			$$b version >/dev/null 2>&1 && echo $$b && break; done)
CFLAGS		?= -O2 -g

# jansson writes --json and --save piece by piece, and says line and column where --restore reads something wrong.
LIBS	:= libbpf libmnl jansson zlib
WARN	:= -Wall -Wextra $(if $(WERROR),-Werror)
Q	:= $(if $(V),,@)
say	= @$(if $(V),:,printf '  %-8s%s\n' $(1) $@)

# Where it is built is nobody's concern, and two builds shall be equal.
nowhere	:= -ffile-prefix-map=$(CURDIR)=.
nat64_cflags = -std=gnu11 $(WARN) $(nowhere) -D_GNU_SOURCE -DNAT64_VERSION='"$(VERSION)"' -I. -isystem build -isystem build/user \
	$(shell $(PKG_CONFIG) --cflags $(LIBS) 2>/dev/null)
# v3: 32-bit arithmetic and jumps, in every kernel since 5.1; clang's own default varies with its age.
# The byte order, and what <asm/types.h> says and others, are those of the machine that CC compiles for.
machine := $(shell $(CC) -dumpmachine)
bpf_target := $(if $(filter 4321,$(shell echo __BYTE_ORDER__ | $(CC) -E -P -)),bpfeb,bpfel)
bpf_cflags = -target $(bpf_target) -mcpu=v3 -O2 -g -std=gnu11 $(WARN) $(nowhere) -I. $(shell $(PKG_CONFIG) --cflags libbpf 2>/dev/null) \
	$(shell $(CLANG) --target=$(machine) -v -E - </dev/null 2>&1 | sed -n '/<...> search/,/^End/s|^ \(/.*\)|-idirafter \1|p')

src := nat64.c $(filter-out %.bpf.c,$(wildcard user/*.c))
obj := $(src:%.c=build/%.o)

completions := build/completion.bash build/completion.zsh build/completion.fish

all: nat64 $(completions) build/nat64.8

nat64: $(obj)
	$(call say,LINK)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(shell $(PKG_CONFIG) --libs $(LIBS))

$(obj): build/%.o: %.c build/nat64.skel.h build/nat64.gz.h build/nat64_btf.gz.h build/user/kernel.skel.h build/user/run.skel.h Makefile
	$(call say,CC)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(nat64_cflags) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

build/%.skel.h: build/%.bpf.o
	$(call say,SKEL)
	$(Q)$(BPFTOOL) gen skeleton $< name $(*F)_bpf >$@.tmp && mv $@.tmp $@

# The larger programs are compressed, and their skeleton is without them: see user/object.c.
no-data	= sed 's/"\\$$/"";/; /^\\[x0]/d'

build/nat64.skel.h: build/nat64.bpf.o
	$(call say,SKEL)
	$(Q)$(BPFTOOL) gen skeleton $< name nat64_bpf >$@.full && $(no-data) $@.full >$@.tmp && mv $@.tmp $@ && rm $@.full

build/%.gz.h: build/%.bpf.o
	$(call say,GZIP)
	$(Q)gzip -9n <$< >$(<:.o=.gz) && od -An -v -t u1 $(<:.o=.gz) | sed 's/[0-9][0-9]*/&,/g' >$@

# Two forms of the programs, see user/object.c. gen object leaves clang's debug information behind and keeps BTF.
build/nat64_btf.bpf.o: bpf_cflags += -DKERNEL_BTF
build/nat64.bpf.o build/nat64_btf.bpf.o: nat64.bpf.c Makefile
build/user/kernel.bpf.o build/user/run.bpf.o: build/%.o: %.c Makefile
build/nat64.bpf.o build/nat64_btf.bpf.o build/user/kernel.bpf.o build/user/run.bpf.o: | needs
	$(call say,BPF)
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(bpf_cflags) -MMD -MP -MT $@ -MF $(@:.o=.d) -c -o $(@:.o=.full.o) $<
	$(Q)$(BPFTOOL) gen object $@ $(@:.o=.full.o)

-include $(obj:.o=.d) build/nat64.bpf.d build/nat64_btf.bpf.d build/user/kernel.bpf.d build/user/run.bpf.d

# Of the list of options; where nat64 itself cannot run, HELP is what prints it.
HELP ?= ./nat64 --help

$(completions): build/completion.%: nat64 dist/completion.awk
	$(call say,GEN)
	$(Q)$(HELP) >$@.help && awk -v shell=$* -f dist/completion.awk $@.help >$@.tmp && mv $@.tmp $@ && rm $@.help

build/nat64.8: dist/nat64.8 Makefile
	$(call say,GEN)
	$(Q)mkdir -p $(@D)
	$(Q)sed 's/^\.Os nat64$$/& $(VERSION)/' $< >$@

# One line for each thing that is missing.
needs:
	@CC='$(CC)' CLANG='$(CLANG)' PKG_CONFIG='$(PKG_CONFIG)' BPFTOOL='$(BPFTOOL)' tests/deps --check build

UNITS := nat64@.service nat64-config@.service nat64-monitor.service nat64-mirror@.service
HOOKS := $(HOOKDIR)/NetworkManager/dispatcher.d/90-nat64 $(HOOKDIR)/networkd-dispatcher/routable.d/nat64 \
	$(HOOKDIR)/networkd-dispatcher/degraded.d/nat64 /etc/network/if-up.d/nat64

install: all
	install -d $(DESTDIR)$(SBINDIR) $(DESTDIR)$(MANDIR)/man8 $(DESTDIR)$(COMPDIR) $(DESTDIR)$(ZSHDIR) \
		$(DESTDIR)$(FISHDIR) $(DESTDIR)$(UNITDIR) $(DESTDIR)$(CONFDIR)
	install -m 755 nat64 $(DESTDIR)$(SBINDIR)/nat64
	install -m 644 build/nat64.8 $(DESTDIR)$(MANDIR)/man8/nat64.8
	install -m 644 build/completion.bash $(DESTDIR)$(COMPDIR)/nat64
	install -m 644 build/completion.zsh $(DESTDIR)$(ZSHDIR)/_nat64
	install -m 644 build/completion.fish $(DESTDIR)$(FISHDIR)/nat64.fish
	install -m 644 dist/sample.conf $(DESTDIR)$(CONFDIR)/sample.conf
	$(Q)for unit in $(UNITS); do \
		sed 's|/usr/local/sbin|$(SBINDIR)|g' dist/$$unit >$(DESTDIR)$(UNITDIR)/$$unit && \
		chmod 644 $(DESTDIR)$(UNITDIR)/$$unit || exit; done
	$(Q)for hook in $(HOOKS); do \
		install -D -m 755 dist/nat64-up $(DESTDIR)$$hook && \
		sed -i 's|/usr/local/sbin|$(SBINDIR)|' $(DESTDIR)$$hook || exit; done
	install -D -m 644 dist/99-nat64.rules $(DESTDIR)$(RULESDIR)/99-nat64.rules
	$(if $(DESTDIR),,$(Q)if udevadm control --reload 2>/dev/null; then \
		udevadm trigger --subsystem-match=net --sysname-match='*-*'; fi)

uninstall:
	rm -f $(DESTDIR)$(SBINDIR)/nat64 $(DESTDIR)$(MANDIR)/man8/nat64.8 $(DESTDIR)$(COMPDIR)/nat64 \
		$(DESTDIR)$(ZSHDIR)/_nat64 $(DESTDIR)$(FISHDIR)/nat64.fish $(DESTDIR)$(CONFDIR)/sample.conf \
		$(UNITS:%=$(DESTDIR)$(UNITDIR)/%) $(HOOKS:%=$(DESTDIR)%) \
		$(DESTDIR)$(RULESDIR)/99-nat64.rules

clean:
	rm -rf build nat64

# When the sources were last changed: by the last commit, or of an unpacked archive, whose files all have that time
git	:= git -c safe.directory='*'
EPOCH	= $(or $(SOURCE_DATE_EPOCH),$(shell test -e .git && $(git) log -1 --format=%ct),$(shell stat -c %Y Makefile))
# What git knows, as it is here, and what is made for Debian; without git, all that make and Python have not made
files	= if [ -e .git ]; then $(git) ls-files -z; printf 'debian/changelog\0'; else find . -name __pycache__ -prune -o -path ./build -prune -o -path ./nat64 -o \
		-path ./.pytest_cache -prune -o ! -type d -printf '%P\0'; fi
ARCHIVE	:= build/nat64-$(VERSION).tar.gz

# With the version and the day of the sources; nothing else in it would be news.
debian/changelog:
	$(Q)printf 'nat64 (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- %s  %s\n' $(VERSION) \
		"$$(sed -n 's/^Maintainer: //p' debian/control)" "$$(LC_ALL=C date -uRd @$(EPOCH))" >$@

dist: debian/changelog
	$(Q)mkdir -p build
	$(Q)set -e; cd build; (cd ..; $(files)) >dist.all; LC_ALL=C sort -z dist.all >dist.files; \
		tar -C .. -c --null -T dist.files --format=ustar --owner=0 --group=0 --numeric-owner --mtime=@$(EPOCH) \
			--mode=u+rw,go=rX,a-s --transform='flags=r;s|^|nat64-$(VERSION)/|' >dist.tar; \
		gzip -9n <dist.tar >dist.gz; mv dist.gz $(notdir $(ARCHIVE)); rm dist.all dist.files dist.tar
	@sha256sum $(ARCHIVE)

# Built as a stranger would: of the archive, unpacked somewhere.
deb: dist
	@tests/deps --check build package
	$(Q)rm -rf build/deb && mkdir build/deb && tar -x -C build/deb -f $(ARCHIVE)
	$(Q)cd build/deb/nat64-$(VERSION) && DEB_BUILD_OPTIONS="$$DEB_BUILD_OPTIONS noautodbgsym" dpkg-buildpackage -us -uc -b $(if $(V),,>../log 2>&1) || { cat ../log; exit 1; }
	$(Q)mv build/deb/*.deb build && rm -r build/deb && ls build/nat64_$(VERSION)_*.deb

# What distributions build packages by, with what is only known now; the archive lies beside them.
recipes: dist
	$(Q)rm -rf build/recipes && mkdir build/recipes && cp -R dist/packages/. build/recipes && cp $(ARCHIVE) build/recipes
	$(Q)find build/recipes -type f ! -name '*.gz' -exec sed -i 's/@VERSION@/$(VERSION)/g; '"\
		s/@SHA256@/$$(sha256sum <$(ARCHIVE) | cut -d' ' -f1)/; s/@SHA512@/$$(sha512sum <$(ARCHIVE) | cut -d' ' -f1)/; \
		s/@MAINTAINER@/$$(sed -n 's/^Maintainer: //p' debian/control)/; \
		s/@DAY@/$$(LC_ALL=C date -ud @$(EPOCH) '+%a %b %d %Y')/" {} +

# Debian's rpm knows nothing of what is installed there, and its own scripts strip no symbols and compress no manual.
rpm_on_debian = --nodeps --define '__os_install_post strip %{buildroot}%{_sbindir}/nat64; gzip -9n %{buildroot}%{_mandir}/man8/*' \
	--define 'debug_package %{nil}' --define '_build_id_links none'

rpm: recipes
	@tests/deps --check build rpm
	$(Q)rm -rf build/rpm && mkdir build/rpm
	$(Q)SOURCE_DATE_EPOCH=$(EPOCH) rpmbuild -bb $(if $(wildcard /etc/debian_version),$(rpm_on_debian)) \
		--define '_topdir $(CURDIR)/build/rpm' --define '_sourcedir $(CURDIR)/build/recipes' --define '_buildhost reproducible' \
		--define 'use_source_date_epoch_as_buildtime 1' --define 'clamp_mtime_to_source_date_epoch 1' \
		build/recipes/nat64.spec $(if $(V),,>build/rpm/log 2>&1) || { cat build/rpm/log; exit 1; }
	$(Q)mv build/rpm/RPMS/*/*.rpm build && rm -r build/rpm && ls build/nat64-$(VERSION)-*.rpm

ARCHS	?= $(shell dpkg --print-architecture 2>/dev/null)

static: dist
	@tests/deps --check build static
	$(Q)MAKE='$(MAKE)' dist/static/build $(VERSION) $(ARCHIVE) $(ARCHS)

deps:
	@tests/deps build

# A second make builds, since this one looked for the packages before they were installed. What root builds in
# another user's tree belongs to that user, so that a later `make` without sudo can write there.
build-as-root = $(MAKE) --no-print-directory all && chown -Rh $$(stat -c %u:%g Makefile) build nat64

demo:
	@tests/deps build demo
	@$(build-as-root)
	@tests/demo

# The system's python3, where the packages of tests/deps are, whatever else is first in PATH. Several files at a time:
# the tests have network namespaces of their own, and wait more than they work.
test:
	@tests/deps build demo test recipes
	@$(build-as-root)
	$(Q)PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -m pytest -p no:cacheprovider -n 4 --dist loadfile \
		tests $(ARGS)

N ?= 1000000

fuzz: all
	@tests/deps build demo test
	$(Q)PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 tests/fuzz.py $(N) $(SEED)

build/flood.skel.h: tests/bench/flood.bpf.c tests/bench/flood.h Makefile | needs
	$(call say,SKEL)
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(bpf_cflags) -c -o $(@:.skel.h=.bpf.o) $<
	$(Q)$(BPFTOOL) gen skeleton $(@:.skel.h=.bpf.o) name flood_bpf >$@.tmp && mv $@.tmp $@

build/flood build/rtt: build/%: tests/bench/%.c tests/bench/flood.h build/flood.skel.h Makefile
	$(call say,CC)
	$(Q)$(CC) $(nat64_cflags) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $< $(shell $(PKG_CONFIG) --libs $(LIBS))

bench-tools: build/flood build/rtt

bench:
	@tests/deps build demo bench
	@$(MAKE) --no-print-directory bench-tools
	@$(build-as-root)
	$(Q)PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 tests/bench/bench.py $(ARGS)

dashboard:
	@tests/deps build demo recipes
	@$(build-as-root)
	$(Q)PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 tests/dashboard.py $(ARGS)

build/verifier: tests/verifier.c build/user/object.o nat64.h Makefile
	$(call say,CC)
	$(Q)$(CC) $(nat64_cflags) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $< build/user/object.o $(shell $(PKG_CONFIG) --libs $(LIBS))

build/testrun: tests/testrun.c nat64.h Makefile
	$(call say,CC)
	$(Q)$(CC) $(nat64_cflags) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $< $(shell $(PKG_CONFIG) --libs $(LIBS))

# Machines are built for below build/machines, each with its own compiler.
test-machines:
	@tests/deps build demo machines $(if $(filter s390x,$(or $(MACHINES),s390x)),big-endian) \
		$(if $(filter-out s390x,$(or $(MACHINES),others)),little-endian cross)
	$(Q)CLANG='$(CLANG)' FEW='$(FEW)' tests/machines $(MACHINES)

test-kernels: all build/verifier build/testrun
	@tests/deps demo test recipes kernels
	$(Q)FULL='$(FULL)' CLANG='$(CLANG)' tests/kernels $(KERNELS)

BOOT_KERNEL ?= 6.12

test-boot: all
	@tests/deps demo test recipes kernels boot
	@$(MAKE) --no-print-directory deb
	$(Q)NAT64_TEST_PATIENCE=5 PYTHONDONTWRITEBYTECODE=1 tests/vmrun --smp 1 --mem 2G --timeout 3000 --init 'tests/image --boot' $(BOOT_KERNEL) -- \
		/usr/bin/python3 -m pytest -v -rs --tb=short --durations=0 -p no:cacheprovider tests/test_boot.py tests/test_unit.py \
		-k 'not without_systemd' $(ARGS)

user_c	:= $(src) dist/static/mnl.c $(filter-out %.bpf.c,$(wildcard tests/*.c tests/bench/*.c))
c_files	:= nat64.h nat64.bpf.c user/kernel.bpf.c user/run.bpf.c $(wildcard headers/*.h user/*.h tests/*.h tests/bench/*.h tests/bench/*.bpf.c) $(user_c)
scripts	:= tests/deps tests/demo tests/image tests/kernels tests/machines tests/vmrun .ci/run build/completion.bash dist/nat64-up \
	dist/static/build $(addprefix dist/packages/,PKGBUILD APKBUILD nat64.install openwrt/files/nat64.init openwrt/files/nat64.hotplug) \
	debian/nat64.postinst debian/nat64.prerm debian/nat64.postrm debian/tests/demo

# sparse does not take strings as long as the BPF object is.
build/sparse/%.skel.h: build/%.skel.h
	$(Q)mkdir -p $(@D)
	$(Q)$(no-data) $< >$@

lint: build/completion.bash build/sparse/nat64.skel.h build/sparse/user/kernel.skel.h build/sparse/user/run.skel.h build/sparse/flood.skel.h
	@tests/deps lint
	$(Q)clang-format --dry-run -Werror --ferror-limit=1 $(c_files)
	@echo 'clang-format: ok'
	$(Q)for f in $(user_c); do sparse -Wsparse-error -isystem build/sparse -isystem build/sparse/user $(nat64_cflags) $$f || exit; done
	$(Q)for form in -UKERNEL_BTF -DKERNEL_BTF; do sparse -Wsparse-error -Wno-decl -include tests/sparse.h \
		$(filter-out -target bpfel bpfeb -mcpu=v3,$(bpf_cflags)) $$form nat64.bpf.c || exit; done
	$(Q)for f in user/*.bpf.c; do sparse -Wsparse-error -Wno-decl -include tests/sparse.h \
		$(filter-out -target bpfel bpfeb -mcpu=v3,$(bpf_cflags)) $$f || exit; done
	@echo 'sparse: ok'
	$(Q)cppcheck --quiet --error-exitcode=1 --inline-suppr --std=c11 \
		--enable=warning,performance,portability --suppress=missingIncludeSystem \
		--suppress=normalCheckLevelMaxBranches -I. $(user_c)
	@echo 'cppcheck: ok'
	$(Q)shellcheck -x $(scripts)
	@echo 'shellcheck: ok'
	$(Q)mandoc -Tlint -Wwarning dist/nat64.8
	@echo 'mandoc: ok'

.PHONY: all needs install uninstall clean dist deb recipes rpm static debian/changelog deps demo test fuzz bench bench-tools dashboard test-kernels test-boot test-machines lint
.DELETE_ON_ERROR:
