# SPDX-License-Identifier: GPL-2.0-or-later
# The front door. Each target does its own set-up; what is there already is not done again.
#
#   make                    build the host and guest programs into build/
#   make demo               two VMs share one GPU, here and now
#   make test               every test, one summary
#   make fuzz               search at random for what breaks the parsers, ten minutes each and more
#   make lint               formatting, pages, clang-tidy, cppcheck
#   make test-qemu-versions compile the device in QEMU 5.2, 7.2 and 10.0
#   make install            DESTDIR and PREFIX as usual
#   make clean              the build folders;  make distclean: also .cache (QEMU, kernel)

PREFIX ?= /usr/local
MESON_SETUP = meson setup --fatal-meson-warnings

.PHONY: all demo test fuzz lint test-qemu-versions install clean distclean

all: build/build.ninja
	ninja -C build

build/build.ninja:
	tools/setup build
	$(MESON_SETUP) build --prefix=$(PREFIX)

demo:
	tools/setup demo
	hypervisor/qemu/build
	tools/vgpu-vm --prepare
	$(MAKE) --no-print-directory all
	tools/demo

test:
	tests/run

fuzz:
	tests/run --only fuzz --fuzz-seconds 600 --fuzz-seed 0

lint:
	tools/setup lint
	$(MAKE) --no-print-directory all
	tools/lint

test-qemu-versions:
	tools/setup qemu-versions
	hypervisor/qemu/build --compile-only 5.2 7.2 10.0

install: all
	meson configure build --prefix=$(PREFIX)
	meson install -C build

clean:
	rm -rf build build-*

distclean: clean
	rm -rf .cache
