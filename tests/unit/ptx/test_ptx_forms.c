/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every full form, opcode and suffixes, that nvcc was seen to emit for compute capability 7.5 in a
 * survey of ordinary CUDA programs, but for calls: each loads and runs to its end, in a kernel of
 * its own. That results are right is for the other tests; that no form is forgotten is for this
 * one.
 */
#include "ptx_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "software.h"

/* clang-format off */
static const char *const forms[] = {
    "abs.f32 %f0, %f1;", "abs.f64 %d0, %d1;", "abs.s32 %r0, %r1;", "activemask.b32 %r0;",
    "add.cc.u32 %r0, %r1, %r2;", "add.f16x2 %r0, %r1, %r2;", "add.f32 %f0, %f1, %f2;",
    "add.f64 %d0, %d1, %d2;", "add.rm.f64 %d0, %d1, %d2;", "add.rn.f32 %f0, %f1, %f2;",
    "add.rn.f64 %d0, %d1, %d2;", "add.rp.f64 %d0, %d1, %d2;", "add.rz.f32 %f0, %f1, %f2;",
    "add.s16 %h0, %h1, %h2;", "add.s32 %r0, %r1, %r2;", "add.s64 %l0, %l1, %l2;",
    "add.u64 %l0, %l1, %l2;", "addc.cc.u32 %r0, %r1, %r2;", "addc.u32 %r0, %r1, %r2;",
    "and.b16 %h0, %h1, %h2;", "and.b32 %r0, %r1, %r2;", "and.b64 %l0, %l1, %l2;",
    "and.pred %p0, %p1, %p2;", "atom.add.acq_rel.cta.u64 %l0, [%l1], %l2;",
    "atom.add.relaxed.cta.u64 %l0, [%l1], %l2;", "atom.add.release.gpu.u32 %r0, [%l1], %r2;",
    "atom.add.u32 %r0, [%l1], %r2;", "atom.global.add.f32 %f0, [%l1], %f2;",
    "atom.global.add.f64 %d0, [%l1], %d2;", "atom.global.add.u32 %r0, [%l1], %r2;",
    "atom.global.add.u64 %l0, [%l1], %l2;", "atom.global.and.b32 %r0, [%l1], %r2;",
    "atom.global.cas.b32 %r0, [%l1], %r2, %r1;", "atom.global.dec.u32 %r0, [%l1], %r2;",
    "atom.global.exch.b32 %r0, [%l1], %r2;", "atom.global.inc.u32 %r0, [%l1], %r2;",
    "atom.global.max.s32 %r0, [%l1], %r2;", "atom.global.min.s32 %r0, [%l1], %r2;",
    "atom.global.or.b32 %r0, [%l1], %r2;", "atom.global.sys.add.u32 %r0, [%l1], %r2;",
    "atom.global.sys.and.b32 %r0, [%l1], %r2;", "atom.global.sys.cas.b32 %r0, [%l1], %r2, %r1;",
    "atom.global.sys.dec.u32 %r0, [%l1], %r2;", "atom.global.sys.exch.b32 %r0, [%l1], %r2;",
    "atom.global.sys.inc.u32 %r0, [%l1], %r2;", "atom.global.sys.max.s32 %r0, [%l1], %r2;",
    "atom.global.sys.min.s32 %r0, [%l1], %r2;", "atom.global.sys.or.b32 %r0, [%l1], %r2;",
    "atom.global.sys.xor.b32 %r0, [%l1], %r2;", "atom.global.xor.b32 %r0, [%l1], %r2;",
    "atom.or.acq_rel.cta.b32 %r0, [%l1], %r2;", "atom.shared.add.f64 %d0, [%l3], %d2;",
    "atom.shared.add.u32 %r0, [%l3], %r2;", "atom.shared.exch.b32 %r0, [%l3], %r2;",
    "bar.red.or.pred %p0, 0, %p1;", "bar.red.popc.u32 %r0, 0, %p1;", "bar.sync 0;",
    "bar.warp.sync 0xffffffff;", "barrier.sync 0;", "bfi.b32 %r0, %r1, %r2, 3, 5;",
    "bfi.b64 %l0, %l1, %l2, 3, 5;", "bfind.shiftamt.u32 %r0, %r1;",
    "bra next; next: mov.u32 %r0, 1;", "bra.uni next; next: mov.u32 %r0, 1;", "brev.b32 %r0, %r1;",
    "clz.b32 %r0, %r1;", "clz.b64 %r0, %l1;", "copysign.f32 %f0, %f1, %f2;",
    "cvt.f32.f16 %f0, %h1;", "cvt.f64.f32 %d0, %f1;", "cvt.rmi.f32.f32 %f0, %f1;",
    "cvt.rmi.f64.f64 %d0, %d1;", "cvt.rn.f16.f32 %h0, %f1;", "cvt.rn.f32.f64 %f0, %d1;",
    "cvt.rn.f32.s16 %f0, %h1;", "cvt.rn.f32.s32 %f0, %r1;", "cvt.rn.f32.s64 %f0, %l1;",
    "cvt.rn.f32.u32 %f0, %r1;", "cvt.rn.f64.s32 %d0, %r1;", "cvt.rn.f64.s64 %d0, %l1;",
    "cvt.rni.f32.f32 %f0, %f1;", "cvt.rni.s32.f32 %r0, %f1;", "cvt.rni.s32.f64 %r0, %d1;",
    "cvt.rpi.f32.f32 %f0, %f1;", "cvt.rzi.f32.f32 %f0, %f1;", "cvt.rzi.f64.f64 %d0, %d1;",
    "cvt.rzi.s32.f32 %r0, %f1;", "cvt.rzi.s32.f64 %r0, %d1;", "cvt.rzi.s64.f32 %l0, %f1;",
    "cvt.rzi.u32.f32 %r0, %f1;", "cvt.s32.s16 %r0, %h1;", "cvt.s32.s8 %r0, %r1;",
    "cvt.s64.s32 %l0, %r1;", "cvt.sat.f32.f32 %f0, %f1;", "cvt.u16.u32 %h0, %r1;",
    "cvt.u32.u16 %r0, %h1;", "cvt.u32.u64 %r0, %l1;", "cvt.u64.u32 %l0, %r1;",
    "cvta.global.u64 %l0, %l1;", "cvta.local.u64 %l0, %l4;", "cvta.shared.u64 %l0, %l3;",
    "cvta.to.global.u64 %l0, %l1;", "cvta.to.local.u64 %l0, %l5;", "div.approx.f32 %f0, %f1, %f2;",
    "div.rm.f64 %d0, %d1, %d2;", "div.rn.f32 %f0, %f1, %f2;", "div.rn.f64 %d0, %d1, %d2;",
    "div.rp.f64 %d0, %d1, %d2;", "div.u16 %h0, %h1, %h2;", "div.u32 %r0, %r1, %r2;",
    "div.u64 %l0, %l1, %l2;", "dp4a.s32.s32 %r0, %r1, %r2, %r3;", "ex2.approx.f32 %f0, %f1;",
    "ex2.approx.ftz.f32 %f0, %f1;", "exit;", "fma.rm.f32 %f0, %f1, %f2, %f3;",
    "fma.rn.f16x2 %r0, %r1, %r2, %r3;", "fma.rn.f32 %f0, %f1, %f2, %f3;",
    "fma.rn.f64 %d0, %d1, %d2, %d3;", "fma.rz.f32 %f0, %f1, %f2, %f3;",
    "ld.acquire.cta.b64 %l0, [%l1];", "ld.acquire.cta.u32 %r0, [%l1];",
    "ld.acquire.gpu.u32 %r0, [%l1];", "ld.const.f32 %f0, [K];", "ld.const.u32 %r0, [K];",
    "ld.f32 %f0, [%l1];", "ld.global.f32 %f0, [%l1];", "ld.global.f64 %d0, [%l1];",
    "ld.global.nc.f32 %f0, [%l1];", "ld.global.nc.f64 %d0, [%l1];", "ld.global.nc.u32 %r0, [%l1];",
    "ld.global.nc.u64 %l0, [%l1];", "ld.global.nc.v2.f32 {%f0, %f1}, [%l1];",
    "ld.global.nc.v2.f64 {%d0, %d1}, [%l1];", "ld.global.nc.v4.f32 {%f0, %f1, %f2, %f3}, [%l1];",
    "ld.global.nc.v4.u32 {%r0, %r1, %r2, %r3}, [%l1];", "ld.global.u16 %h0, [%l1];",
    "ld.global.u32 %r0, [%l1];", "ld.global.u64 %l0, [%l1];", "ld.global.u8 %h0, [%l1];",
    "ld.global.v2.u32 {%r0, %r1}, [%l1];", "ld.global.v4.f32 {%f0, %f1, %f2, %f3}, [%l1];",
    "ld.global.v4.u32 {%r0, %r1, %r2, %r3}, [%l1];", "ld.local.f64 %d0, [%l4];",
    "ld.local.s8 %h0, [%l4];", "ld.local.u32 %r0, [%l4];", "ld.local.u64 %l0, [%l4];",
    "ld.param.b32 %r0, [P];", "ld.param.b64 %l0, [P];", "ld.param.f32 %f0, [P];",
    "ld.param.f64 %d0, [P];", "ld.param.u32 %r0, [P];", "ld.param.u64 %l0, [P];",
    "ld.shared.f32 %f0, [%l3];", "ld.shared.f64 %d0, [%l3];", "ld.shared.u16 %h0, [%l3];",
    "ld.shared.u32 %r0, [%l3];", "ld.shared.u64 %l0, [%l3];", "ld.shared.u8 %h0, [%l3];",
    "ld.shared.v2.f32 {%f0, %f1}, [%l3];", "ld.shared.v2.f64 {%d0, %d1}, [%l3];",
    "ld.shared.v2.u16 {%h0, %h1}, [%l3];", "ld.shared.v4.f32 {%f0, %f1, %f2, %f3}, [%l3];",
    "ld.shared.v4.u32 {%r0, %r1, %r2, %r3}, [%l3];", "ld.u32 %r0, [%l1];", "ld.u64 %l0, [%l1];",
    "ld.volatile.global.u32 %r0, [%l1];", "ld.volatile.shared.f32 %f0, [%l3];",
    "ld.volatile.shared.u32 %r0, [%l3];", "lg2.approx.f32 %f0, %f1;",
    "mad.lo.cc.u32 %r0, %r1, %r2, %r3;", "mad.lo.s32 %r0, %r1, %r2, %r3;",
    "mad.wide.u32 %l0, %r1, %r2, %l5;", "madc.hi.cc.u32 %r0, %r1, %r2, %r3;",
    "madc.hi.u32 %r0, %r1, %r2, %r3;", "madc.lo.cc.u32 %r0, %r1, %r2, %r3;",
    "match.any.sync.b32 %r0, %r1, 0xffffffff;", "match.any.sync.b64 %r0, %l1, 0xffffffff;",
    "max.f32 %f0, %f1, %f2;", "max.f64 %d0, %d1, %d2;", "max.s32 %r0, %r1, %r2;",
    "max.u16 %h0, %h1, %h2;", "max.u32 %r0, %r1, %r2;", "membar.gl;", "min.f32 %f0, %f1, %f2;",
    "min.f64 %d0, %d1, %d2;", "min.s32 %r0, %r1, %r2;", "min.u16 %h0, %h1, %h2;",
    "min.u32 %r0, %r1, %r2;", "mov.b32 %r0, %r1;", "mov.b64 %l0, %l1;", "mov.f32 %f0, %f1;",
    "mov.f64 %d0, %d1;", "mov.pred %p0, %p1;", "mov.u16 %h0, %h1;", "mov.u32 %r0, %r1;",
    "mov.u64 %l0, %l1;", "mul.f16x2 %r0, %r1, %r2;", "mul.f32 %f0, %f1, %f2;",
    "mul.f64 %d0, %d1, %d2;", "mul.hi.s32 %r0, %r1, %r2;", "mul.hi.u32 %r0, %r1, %r2;",
    "mul.lo.s16 %h0, %h1, %h2;", "mul.lo.s32 %r0, %r1, %r2;", "mul.lo.s64 %l0, %l1, %l2;",
    "mul.lo.u32 %r0, %r1, %r2;", "mul.rm.f64 %d0, %d1, %d2;", "mul.rn.f32 %f0, %f1, %f2;",
    "mul.rn.f64 %d0, %d1, %d2;", "mul.rp.f64 %d0, %d1, %d2;", "mul.wide.s32 %l0, %r1, %r2;",
    "mul.wide.u16 %r0, %h1, %h2;", "mul.wide.u32 %l0, %r1, %r2;", "nanosleep.u32 20;",
    "neg.f32 %f0, %f1;", "neg.f64 %d0, %d1;", "neg.s32 %r0, %r1;", "neg.s64 %l0, %l1;",
    "not.b32 %r0, %r1;", "not.pred %p0, %p1;", "or.b16 %h0, %h1, %h2;", "or.b32 %r0, %r1, %r2;",
    "or.b64 %l0, %l1, %l2;", "or.pred %p0, %p1, %p2;", "popc.b32 %r0, %r1;",
    "prmt.b32 %r0, %r1, %r2, %r3;", "rcp.approx.ftz.f32 %f0, %f1;", "rcp.approx.ftz.f64 %d0, %d1;",
    "rcp.rn.f32 %f0, %f1;", "rcp.rn.f64 %d0, %d1;", "red.and.release.cta.b32 [%l1], %r2;",
    "rem.s32 %r0, %r1, %r2;", "rem.u32 %r0, %r1, %r2;", "ret;", "rsqrt.approx.f32 %f0, %f1;",
    "sad.s32 %r0, %r1, %r2, %r3;", "selp.b32 %r0, %r1, %r2, %p1;", "selp.b64 %l0, %l1, %l2, %p1;",
    "selp.f32 %f0, %f1, %f2, %p1;", "selp.f64 %d0, %d1, %d2, %p1;", "selp.u16 %h0, %h1, %h2, %p1;",
    "selp.u32 %r0, %r1, %r2, %p1;", "selp.u64 %l0, %l1, %l2, %p1;", "setp.eq.b32 %p0, %r1, %r2;",
    "setp.eq.f32 %p0, %f1, %f2;", "setp.eq.f64 %p0, %d1, %d2;", "setp.eq.s16 %p0, %h1, %h2;",
    "setp.eq.s32 %p0, %r1, %r2;", "setp.eq.s64 %p0, %l1, %l2;", "setp.ge.f32 %p0, %f1, %f2;",
    "setp.ge.s32 %p0, %r1, %r2;", "setp.ge.u32 %p0, %r1, %r2;", "setp.ge.u64 %p0, %l1, %l2;",
    "setp.geu.f32 %p0, %f1, %f2;", "setp.geu.f64 %p0, %d1, %d2;", "setp.gt.f32 %p0, %f1, %f2;",
    "setp.gt.f64 %p0, %d1, %d2;", "setp.gt.s16 %p0, %h1, %h2;", "setp.gt.s32 %p0, %r1, %r2;",
    "setp.gt.s64 %p0, %l1, %l2;", "setp.gt.u32 %p0, %r1, %r2;", "setp.gt.u64 %p0, %l1, %l2;",
    "setp.gtu.f32 %p0, %f1, %f2;", "setp.gtu.f64 %p0, %d1, %d2;", "setp.le.f32 %p0, %f1, %f2;",
    "setp.le.f64 %p0, %d1, %d2;", "setp.le.s32 %p0, %r1, %r2;", "setp.le.u16 %p0, %h1, %h2;",
    "setp.le.u32 %p0, %r1, %r2;", "setp.leu.f32 %p0, %f1, %f2;", "setp.leu.f64 %p0, %d1, %d2;",
    "setp.lt.f32 %p0, %f1, %f2;", "setp.lt.f64 %p0, %d1, %d2;", "setp.lt.s32 %p0, %r1, %r2;",
    "setp.lt.s64 %p0, %l1, %l2;", "setp.lt.u16 %p0, %h1, %h2;", "setp.lt.u32 %p0, %r1, %r2;",
    "setp.lt.u64 %p0, %l1, %l2;", "setp.ltu.f32 %p0, %f1, %f2;", "setp.ltu.f64 %p0, %d1, %d2;",
    "setp.nan.f64 %p0, %d1, %d2;", "setp.ne.s16 %p0, %h1, %h2;", "setp.ne.s32 %p0, %r1, %r2;",
    "setp.ne.s64 %p0, %l1, %l2;", "setp.ne.u32 %p0, %r1, %r2;", "setp.neu.f32 %p0, %f1, %f2;",
    "setp.neu.f64 %p0, %d1, %d2;", "setp.num.f64 %p0, %d1, %d2;",
    "shf.l.wrap.b32 %r0, %r1, %r2, %r3;", "shf.r.wrap.b32 %r0, %r1, %r2, %r3;",
    "shfl.sync.bfly.b32 %r0|%p0, %r1, 1, 31, -1;", "shfl.sync.down.b32 %r0|%p0, %r1, 1, 31, -1;",
    "shfl.sync.idx.b32 %r0|%p0, %r1, 1, 31, -1;", "shfl.sync.up.b32 %r0|%p0, %r1, 1, 0, -1;",
    "shl.b16 %h0, %h1, 3;", "shl.b32 %r0, %r1, 3;", "shl.b64 %l0, %l1, 3;", "shr.s32 %r0, %r1, 3;",
    "shr.s64 %l0, %l1, 3;", "shr.u32 %r0, %r1, 3;", "shr.u64 %l0, %l1, 3;",
    "sin.approx.f32 %f0, %f1;", "sqrt.rn.f32 %f0, %f1;", "sqrt.rn.f64 %d0, %d1;",
    "st.f32 [%l1], %f0;", "st.f64 [%l1], %d0;", "st.global.f32 [%l1], %f0;",
    "st.global.f64 [%l1], %d0;", "st.global.u16 [%l1], %h0;", "st.global.u32 [%l1], %r0;",
    "st.global.u64 [%l1], %l0;", "st.global.u8 [%l1], %h0;", "st.global.v2.f32 [%l1], {%f0, %f1};",
    "st.global.v2.u32 [%l1], {%r0, %r1};", "st.global.v4.f32 [%l1], {%f0, %f1, %f2, %f3};",
    "st.global.v4.u32 [%l1], {%r0, %r1, %r2, %r3};", "st.global.v4.u8 [%l1], {%h0, %h1, %h2, %h3};",
    "st.local.f64 [%l4], %d0;", "st.local.u32 [%l4], %r0;", "st.local.u64 [%l4], %l0;",
    "st.local.v2.u32 [%l4], {%r0, %r1};", "st.local.v4.u32 [%l4], {%r0, %r1, %r2, %r3};",
    "st.shared.f32 [%l3], %f0;", "st.shared.f64 [%l3], %d0;", "st.shared.u16 [%l3], %h0;",
    "st.shared.u32 [%l3], %r0;", "st.shared.u64 [%l3], %l0;", "st.shared.u8 [%l3], %h0;",
    "st.shared.v2.f32 [%l3], {%f0, %f1};", "st.shared.v2.u16 [%l3], {%h0, %h1};",
    "st.shared.v4.u32 [%l3], {%r0, %r1, %r2, %r3};", "st.u32 [%l1], %r0;", "st.u64 [%l1], %l0;",
    "st.volatile.global.u32 [%l1], %r0;", "st.volatile.shared.f32 [%l3], %f0;",
    "st.volatile.shared.u32 [%l3], %r0;", "sub.cc.u32 %r0, %r1, %r2;", "sub.f32 %f0, %f1, %f2;",
    "sub.f64 %d0, %d1, %d2;", "sub.s32 %r0, %r1, %r2;", "sub.s64 %l0, %l1, %l2;",
    "subc.cc.u32 %r0, %r1, %r2;", "subc.u32 %r0, %r1, %r2;",
    "sust.b.2d.b32.trap [%l6, {%r8, %r9}], {%r0};",
    "tex.1d.v4.f32.s32 {%f0, %f1, %f2, %f3}, [%l7, {%r8}];",
    "tex.2d.v4.f32.f32 {%f0, %f1, %f2, %f3}, [%l7, {%f1, %f2}];",
    "vote.sync.all.pred %p0, %p1, -1;", "vote.sync.any.pred %p0, %p1, -1;",
    "vote.sync.ballot.b32 %r0, %p1, -1;", "xor.b32 %r0, %r1, %r2;", "xor.b64 %l0, %l1, %l2;",
    "xor.pred %p0, %p1, %p2;",
};
/* clang-format on */

#define FORMS (sizeof(forms) / sizeof(forms[0]))

/* Registers 0 take results, 1 to 5 hold values; %l1 is global, %l3 shared, %l4 and %l5 local memory
 * in its own and the generic window, %l6 a surface, %l7 a texture. */
static const char *const kernel =
    ".visible .entry k%zu(.param .u64 P, .param .u64 S, .param .u64 T)\n{\n"
    ".reg .pred %%p<3>; .reg .b16 %%h<6>; .reg .b32 %%r<10>; .reg .f32 %%f<6>; .reg .b64 %%l<8>; "
    ".reg .f64 %%d<6>;\n"
    ".shared .align 16 .b8 sh[16]; .local .align 16 .b8 lo[16];\n"
    "ld.param.u64 %%l1, [P]; ld.param.u64 %%l6, [S]; ld.param.u64 %%l7, [T];\n"
    "mov.u64 %%l3, sh; mov.u64 %%l4, lo; cvta.local.u64 %%l5, %%l4;\n"
    "mov.u32 %%r1, 5; mov.u32 %%r2, 7; mov.u32 %%r3, 11; mov.u32 %%r8, 0; mov.u32 %%r9, 0;\n"
    "mov.u64 %%l2, 13; mov.u16 %%h1, 3; mov.u16 %%h2, 2; setp.eq.u32 %%p1|%%p2, %%r1, 5;\n"
    "mov.f32 %%f1, 0f3F800000; mov.f32 %%f2, 0f40000000; mov.f32 %%f3, 0f40400000;\n"
    "mov.f64 %%d1, 0d3FF0000000000000; mov.f64 %%d2, 0d4000000000000000; mov.f64 %%d3, %%d1;\n"
    "%s\nret;\n}\n";

/* Calls, and stores to the parameters of calls, have tests of their own. */
static void test_every_form(void **state)
{
    (void)state;
    static const char *const levels[] = {"base", "avx2"};
    const size_t room = FORMS * 2048;
    char *text = malloc(room);
    assert_non_null(text);
    for (unsigned level = 0; level < 2; level++) {
        struct rig r;
        uint64_t at, array, params[3];
        rig_open(&r, 2);
        if (vgpu_software_set_level(r.b, levels[level]) != CUDA_SUCCESS) {
            rig_close(&r);
            continue; /* this host lacks it */
        }
        size_t len = (size_t)snprintf(text, room, ".const .align 16 .b8 K[16] = {1,2,3,4};\n");
        for (size_t i = 0; i < FORMS; i++)
            len += (size_t)snprintf(text + len, room - len, kernel, i, forms[i]);
        rig_load(&r, text, CUDA_SUCCESS);
        struct vgpu_array_desc desc = {16, 16, 0, VGPU_ARRAY_FLOAT, 1, false};
        struct vgpu_array_desc line = {16, 0, 0, VGPU_ARRAY_FLOAT, 1, false};
        struct vgpu_texture_desc texture = {.source = VGPU_TEXTURE_ARRAY};
        assert_int_equal(r.o->mem_alloc(r.b, 256, &at), CUDA_SUCCESS);
        params[0] = at;
        assert_int_equal(vgpu_software_array_create(r.b, &desc, &array), CUDA_SUCCESS);
        assert_int_equal(vgpu_software_surface_create(r.b, array, &params[1]), CUDA_SUCCESS);
        for (size_t i = 0; i < FORMS; i++) {
            char name[16];
            bool flat = strncmp(forms[i], "tex.1d", 6) == 0;
            assert_int_equal(vgpu_software_array_create(r.b, flat ? &line : &desc, &texture.array),
                             CUDA_SUCCESS);
            assert_int_equal(vgpu_software_texture_create(r.b, &texture, &params[2]), CUDA_SUCCESS);
            snprintf(name, sizeof(name), "k%zu", i);
            CUresult rc = rig_launch(&r, name, 2, 64, 0, 3, params);
            if (rc != CUDA_SUCCESS)
                print_error("%s: %d, %s\n", forms[i], (int)rc, vgpu_software_last_error(r.b));
            assert_int_equal(rc, CUDA_SUCCESS);
            vgpu_software_texture_destroy(r.b, params[2]);
            vgpu_software_array_destroy(r.b, texture.array);
        }
        rig_close(&r);
    }
    free(text);
}

/* The one form that does not run to its end. */
static void test_trap(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 1);
    rig_load(&r, ".visible .entry k() { trap; ret; }", CUDA_SUCCESS);
    assert_int_equal(rig_launch(&r, "k", 1, 32, 0, 0, NULL), CUDA_ERROR_LAUNCH_FAILED);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {VGPU_TEST(test_every_form), VGPU_TEST(test_trap)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
