// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Products of a whole warpgroup (four warps, the first a multiple of four) on the tensor cores of
// Hopper: c += a b with a 64 x 16, b 16 x 64, 16 x 128 or 16 x 256, 16-bit factors and float32
// sums. For sm_90a.
//
// The sums of lane (g, t) = (lane / 4, lane % 4) of warp w: element 4 j + 2 i + e is row
// 16 w + g + 8 i, column 8 j + 2 t + e. A in registers has the order of mma.m16n8k16 (mma.cuh) for
// rows 16 w + ...: columns 2t, 2t + 1 of row g, of row g + 8, then both again for columns 8 higher.
// So sums of 16 columns, rounded, are the A of a product over those columns.
//
// A and B in shared memory are blocks of rows of 128 bytes, 64 elements, of which piece c, 16
// bytes, of row r lies where piece c ^ (r % 8) would be (swizzled_bytes); blocks begin at multiples
// of 1024 bytes. Rows of A are its rows. Rows of B are its k-indices, so that B lies as keys
// (channel by channel) and values (slot by slot) lie in pages; the two blocks of 128 columns are
// `stride` apart. Of multiply_by_rows they are its columns, as weights lie, output by output.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/common/dtype.hpp"

namespace pikv::kernels::cuda {

inline constexpr int kGroupThreads = 128;  // of a warpgroup

inline constexpr std::uint32_t kBlockRowBytes = 128;
inline constexpr int kBlockColumns = 64;
inline constexpr int kPieceElements = 8;
inline constexpr std::uint32_t kPieceBytes = 16;
inline constexpr int kBlockPieces = kBlockRowBytes / kPieceBytes;

/// Where piece `piece` of row `row` is in a block.
__device__ __forceinline__ std::uint32_t swizzled_bytes(int row, int piece) {
  return static_cast<std::uint32_t>(row) * kBlockRowBytes +
         static_cast<std::uint32_t>(piece ^ (row % 8)) * kPieceBytes;
}

/// How the tensor cores find an operand (PTX ISA, matrix descriptor), as the halves of 64 bits: a
/// sum of 64 bits in their place would carry from one to the other.
struct Operand {
  /// In units of 16 bytes: where it begins, bits 0 to 13; from one block of columns to the next,
  /// bits 16 to 29.
  std::uint32_t place;
  /// From eight rows to the next eight, bits 0 to 13. Bits 30 and 31 hold 1: swizzled in rows of
  /// 128 bytes.
  static constexpr std::uint32_t kForm = std::uint32_t{1} << 30 | 8 * kBlockRowBytes / 16;

  __device__ __forceinline__ Operand operator+(std::uint32_t distance) const {
    return {place + distance};
  }
};
/// The same for all lanes, of which the compiler is told.
__device__ __forceinline__ Operand operand_at(std::uint32_t address, std::uint32_t stride) {
  return {__shfl_sync(0xffffffffu, stride / 16 << 16 | (address & 0x3ffff) / 16, 0)};
}
/// The next 16 rows of B.
inline constexpr std::uint32_t kNextRows = 16 * kBlockRowBytes / 16;
/// The next 16 columns of A inside a block, or k-indices of B where its rows are its columns.
inline constexpr std::uint32_t kNextColumns = 16 * 2 / 16;

/// Before products: what was written to their registers is there.
__device__ __forceinline__ void begin_products() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
/// Those since the last call are a group.
__device__ __forceinline__ void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Until at most the last kPending groups are under way.
template <int kPending>
__device__ __forceinline__ void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
/// Keeps the compiler from moving uses of sums over the products that change them.
template <int kCount>
__device__ __forceinline__ void hold(float (&sums)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(sums[i]));
}

#define PIKV_EIGHT(c, i)                                                                      \
  "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3]), "+f"(c[i + 4]), "+f"(c[i + 5]), \
      "+f"(c[i + 6]), "+f"(c[i + 7])
#define PIKV_THIRTY_TWO(c, i) \
  PIKV_EIGHT(c, i), PIKV_EIGHT(c, i + 8), PIKV_EIGHT(c, i + 16), PIKV_EIGHT(c, i + 24)
#define PIKV_SUMS_32                                       \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15," \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define PIKV_SUMS_64                                                 \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"           \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31," \
  "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47," \
  "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"

/// c (+)= a b, where `adds` is 1 (0).
template <class T>
__device__ __forceinline__ void multiply_group(float (&c)[32], Operand a, Operand b, int adds);
template <class T>
__device__ __forceinline__ void multiply_group(float (&c)[64], Operand a, Operand b, int adds);
/// c += a b.
template <class T>
__device__ __forceinline__ void multiply_group(float (&c)[32], const std::uint32_t* a, Operand b);
template <class T>
__device__ __forceinline__ void multiply_group(float (&c)[64], const std::uint32_t* a, Operand b);

#define PIKV_MULTIPLY_SHARED(T, type, count, columns, a, b, form, adds)                            \
  template <>                                                                                      \
  __device__ __forceinline__ void multiply_group<T>(float(&c)[count], Operand left, Operand right, \
                                                    int sum) {                                     \
    asm volatile("{.reg .pred p; .reg .b64 a, b; setp.ne.b32 p, " adds ", 0; mov.b64 a, {" a       \
                 ", " form "}; mov.b64 b, {" b ", " form                                           \
                 "};"                                                                              \
                 "wgmma.mma_async.sync.aligned.m64n" columns "k16.f32." type "." type              \
                 " {" PIKV_SUMS_##count "}, a, b, p, 1, 1, 0, 1;}"                                 \
                 : PIKV_LIST_##count                                                               \
                 : "r"(left.place), "r"(right.place), "n"(Operand::kForm), "r"(sum));              \
  }
#define PIKV_MULTIPLY_REGISTERS(T, type, count, columns, a, b, form)                             \
  template <>                                                                                    \
  __device__ __forceinline__ void multiply_group<T>(float(&c)[count], const std::uint32_t* left, \
                                                    Operand right) {                             \
    asm volatile("{.reg .pred p; .reg .b64 b; setp.eq.b32 p, 0, 0; mov.b64 b, {" b ", " form     \
                 "};"                                                                            \
                 "wgmma.mma_async.sync.aligned.m64n" columns "k16.f32." type "." type            \
                 " {" PIKV_SUMS_##count "}, {" a "}, b, p, 1, 1, 1;}"                            \
                 : PIKV_LIST_##count                                                             \
                 : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right.place),     \
                   "n"(Operand::kForm));                                                         \
  }
#define PIKV_LIST_32 PIKV_THIRTY_TWO(c, 0)
#define PIKV_LIST_64 PIKV_THIRTY_TWO(c, 0), PIKV_THIRTY_TWO(c, 32)

PIKV_MULTIPLY_SHARED(BFloat16, "bf16", 32, "64", "%32", "%33", "%34", "%35")
PIKV_MULTIPLY_SHARED(BFloat16, "bf16", 64, "128", "%64", "%65", "%66", "%67")
PIKV_MULTIPLY_SHARED(Half, "f16", 32, "64", "%32", "%33", "%34", "%35")
PIKV_MULTIPLY_SHARED(Half, "f16", 64, "128", "%64", "%65", "%66", "%67")
PIKV_MULTIPLY_REGISTERS(BFloat16, "bf16", 32, "64", "%32,%33,%34,%35", "%36", "%37")
PIKV_MULTIPLY_REGISTERS(BFloat16, "bf16", 64, "128", "%64,%65,%66,%67", "%68", "%69")
PIKV_MULTIPLY_REGISTERS(Half, "f16", 32, "64", "%32,%33,%34,%35", "%36", "%37")
PIKV_MULTIPLY_REGISTERS(Half, "f16", 64, "128", "%64,%65,%66,%67", "%68", "%69")

/// c (+)= a b, where `adds` is 1 (0), of bfloat16 factors. Rows of b are its columns: 24, 48, 96 or
/// 256 of them.
#define PIKV_MULTIPLY_BY_ROWS(count, columns, a, b, form, adds)                                   \
  __device__ __forceinline__ void multiply_by_rows(float(&c)[count], Operand left, Operand right, \
                                                   int sum) {                                     \
    asm volatile("{.reg .pred p; .reg .b64 a, b; setp.ne.b32 p, " adds ", 0; mov.b64 a, {" a      \
                 ", " form "}; mov.b64 b, {" b ", " form                                          \
                 "};"                                                                             \
                 "wgmma.mma_async.sync.aligned.m64n" columns                                      \
                 "k16.f32.bf16.bf16"                                                              \
                 " {" PIKV_SUMS_##count "}, a, b, p, 1, 1, 0, 0;}"                                \
                 : PIKV_LIST_##count                                                              \
                 : "r"(left.place), "r"(right.place), "n"(Operand::kForm), "r"(sum));             \
  }
#define PIKV_FOUR(c, i) "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3])
#define PIKV_SUMS_12 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11"
#define PIKV_SUMS_24 PIKV_SUMS_12 ",%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23"
#define PIKV_SUMS_48 PIKV_SUMS_32 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47"
#define PIKV_SUMS_128                                                            \
  PIKV_SUMS_64                                                                   \
  ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79"             \
  ",%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"             \
  ",%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111" \
  ",%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define PIKV_LIST_12 PIKV_EIGHT(c, 0), PIKV_FOUR(c, 8)
#define PIKV_LIST_24 PIKV_EIGHT(c, 0), PIKV_EIGHT(c, 8), PIKV_EIGHT(c, 16)
#define PIKV_LIST_48 PIKV_THIRTY_TWO(c, 0), PIKV_EIGHT(c, 32), PIKV_EIGHT(c, 40)
#define PIKV_LIST_128 PIKV_LIST_64, PIKV_THIRTY_TWO(c, 64), PIKV_THIRTY_TWO(c, 96)

PIKV_MULTIPLY_BY_ROWS(12, "24", "%12", "%13", "%14", "%15")
PIKV_MULTIPLY_BY_ROWS(24, "48", "%24", "%25", "%26", "%27")
PIKV_MULTIPLY_BY_ROWS(48, "96", "%48", "%49", "%50", "%51")
PIKV_MULTIPLY_BY_ROWS(128, "256", "%128", "%129", "%130", "%131")

#undef PIKV_FOUR
#undef PIKV_SUMS_12
#undef PIKV_SUMS_24
#undef PIKV_SUMS_48
#undef PIKV_SUMS_128
#undef PIKV_LIST_12
#undef PIKV_LIST_24
#undef PIKV_LIST_48
#undef PIKV_LIST_128
#undef PIKV_MULTIPLY_BY_ROWS
#undef PIKV_EIGHT
#undef PIKV_THIRTY_TWO
#undef PIKV_SUMS_32
#undef PIKV_SUMS_64
#undef PIKV_LIST_32
#undef PIKV_LIST_64
#undef PIKV_MULTIPLY_SHARED
#undef PIKV_MULTIPLY_REGISTERS

}  // namespace pikv::kernels::cuda
