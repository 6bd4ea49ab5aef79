// Where the tables of `tokenizers` are older than utf8proc's (Unicode 15): its normalisation is the crate
// unicode-normalization-alignments 0.1, its punctuation the crate unicode_categories 0.1 (Unicode 9 and 8).
// Token ids must be equal, so these code points are treated as those crates treat them.
#pragma once

namespace lathe::text {

/// Decomposes, composes or reorders since Unicode 10 only: for `tokenizers` an ordinary letter.
bool is_inert_in_normalization(char32_t c);

/// Category P since Unicode 9 (or no longer): the opposite of what utf8proc says holds for `tokenizers`.
bool punctuation_differs(char32_t c);

}  // namespace lathe::text
