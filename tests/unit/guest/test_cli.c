/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the guest's programs print that is not theirs: the host's names, as JSON and for a terminal.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "vgpu_test.h"

static void expect_json(const char *text, const char *want)
{
    char *got = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&got, &length);
    assert_non_null(out);
    cli_json_string(out, text);
    fclose(out);
    assert_string_equal(got, want);
    free(got);
}

/* UTF-8 is passed through; control characters, C1 and what is no UTF-8 are escaped. */
static void test_json(void **state)
{
    (void)state;
    expect_json("", "\"\"");
    expect_json("NVIDIA \"H\\\"", "\"NVIDIA \\\"H\\\\\\\"\"");
    expect_json("a\nb\x1b[31m\x7f", "\"a\\u000ab\\u001b[31m\\u007f\"");
    expect_json("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
                "\"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\"");
    expect_json("\xc2\x9b", "\"\\u009b\""); /* C1: CSI */
    expect_json("\xff"
                "a\xc3",
                "\"\\u00ffa\\u00c3\"");                                  /* no start; cut short */
    expect_json("\xc0\xaf", "\"\\u00c0\\u00af\"");                       /* overlong */
    expect_json("\xed\xa0\x80", "\"\\u00ed\\u00a0\\u0080\"");            /* surrogate */
    expect_json("\xf4\x90\x80\x80", "\"\\u00f4\\u0090\\u0080\\u0080\""); /* over 10FFFF */
}

static void expect_harmless(const char *text, char quote, const char *want)
{
    char out[64];
    cli_harmless(out, sizeof(out), text, quote);
    assert_string_equal(out, want);
}

/* No byte that a terminal would obey gets through. */
static void test_harmless(void **state)
{
    (void)state;
    char small[4];
    expect_harmless("A100 \xc3\xa9", 0, "A100 \xc3\xa9");
    expect_harmless("a\x1b]0;title\x07\r\n\tb\x7f", 0, "a?]0;title????b?");
    expect_harmless("\xc2\x9b"
                    "31m\x9b"
                    "31m",
                    0, "?31m?31m");
    expect_harmless("say \"x\"", '"', "say ?x?");
    expect_harmless("say \"x\"", 0, "say \"x\"");
    cli_harmless(small, sizeof(small), "abcdef", 0);
    assert_string_equal(small, "abc");
    cli_harmless(small, sizeof(small), "ab\xc3\xa9", 0); /* never half a character */
    assert_string_equal(small, "ab");
    cli_harmless(small, 1, "ab", 0);
    assert_string_equal(small, "");
    char place[16] = "q\"\x1b[0m\xc3\xa9";
    cli_harmless(place, sizeof(place), place, '"');
    assert_string_equal(place, "q??[0m\xc3\xa9");
}

/* An option's value may be a word of its own, and be empty only where that means something. */
static void test_options(void **state)
{
    (void)state;
    char program[] = "p", empty[] = "--device=", joined[] = "--device=x", alone[] = "--device",
         value[] = "y", other[] = "--devices=x", nothing[] = "";
    char *argv[] = {program, empty, joined, alone, value, other, alone, nothing, alone};
    const char *got = "";
    int at = 1;
    assert_true(cli_text_option(9, argv, &at, "--device", &got));
    assert_null(got);
    at = 2;
    assert_true(cli_text_option(9, argv, &at, "--device", &got));
    assert_string_equal(got, "x");
    at = 3;
    assert_true(cli_text_option(9, argv, &at, "--device", &got));
    assert_string_equal(got, "y");
    assert_int_equal(at, 4);
    at = 5;
    assert_false(cli_text_option(9, argv, &at, "--device", &got));
    at = 6;
    assert_true(cli_text_option(9, argv, &at, "--device", &got));
    assert_null(got);
    at = 8;
    assert_true(cli_text_option(9, argv, &at, "--device", &got));
    assert_null(got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_json),
        VGPU_TEST(test_harmless),
        VGPU_TEST(test_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
