"""What is wrong with a C{.x} file is told with file, line and column."""

from __future__ import annotations

import contextlib
import pickle
from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st

from rpcstream.errors import BadSchema
from rpcstream.programs.xdrfile import BadXDRFile, compile_text
from tests.programs.xdr_support import FILES, QUICK

PROGRAM = "const A_PROGRAM = 5;\nconst A_VERSION = 1;\n"

SYNTAX = (
    ("const A 5;", "1:9: '=' is expected here, not '5'"),
    ("const A = 0x;", "1:11: '0x' is not a number (decimal, 0x.. or octal 0..)"),
    ("const A = 09;", "1:11: '09' is not a number"),
    ("const A = 1a;", "1:11: '1a' is not a number"),
    ("struct x { int a }", "1:18: '<' or '[' or ';' is expected here, not '}'"),
    ("struct x {};", "1:11: a type is expected here, not '}'"),
    ("\n\n   foo", "3:4: a definition (const, typedef, enum, struct, union or program) is expected here"),
    ("struct a { int x<; };", "1:18: '>' or a name or a number is expected here, not ';'"),
    ("struct a {\n  in", "2:5: a name or '*' is expected here, not the end of the file"),
    ("const A = 5\n\n", "1:12: ';' is expected here, not the end of the file"),
    ("enum a { B = };", "1:14: a name or a number is expected here, not '}'"),
    ("enum a { };", "1:10: a name is expected here"),
    ("union u switch (int a) { default: void; };", "1:26: 'case' is expected here, not 'default'"),
    ("struct a { unsigned float x; };", "1:27: '<' or '[' or ';' is expected here, not 'x'"),
    ("struct a { unsigned 5; };", "1:21: something else is expected here, not '5'"),
    ("struct a { int ?; };", "1:16: '?' does not belong here"),
    ("/* a\n", "1:1: this comment is not closed"),
    ("const A = 1; /* a */ /* b", "1:22: this comment is not closed"),
    ("\n#define X 5\n", "2:1: a line for the C preprocessor; run the file through cpp -P first"),
    ("const A = 1; % const B = 2;", "1:14: '%' does not belong here"),
)
"""Text, and the error that it must give."""

MEANING = (
    ("const A = B;", "1:11: nothing declares a constant B"),
    ("const A = B; const B = A;", "is defined by itself"),
    ("enum a { B = C, C = B };", "is defined by itself"),
    ("const A = 1;\nconst A = 2;", "2:7: constant A is declared already, in line 1"),
    ("enum a { A }; const A = 2;", "1:21: constant A is declared already, in line 1"),
    ("struct s { enum { A } x; enum { A } y; };", "1:33: constant A is declared already"),
    ("struct a { int x; }; typedef int a;", "1:34: type a is declared already"),
    ("struct a { int x; int x; };", "1:23: field x is there already"),
    ("struct a { void; };", "1:10: a struct needs a field"),
    ("typedef void;", "1:9: void cannot have a name of its own"),
    ("struct a { b x; };", "1:12: nothing declares a type b"),
    ("struct a { int x; a y; };", "1:19: a contains itself; that takes an optional, an array or a union"),
    ("struct a { b x[2]; }; struct b { a y; };", "contains itself"),
    ("typedef a b; typedef b a;", "contains itself"),
    ("typedef a b; typedef b a; union u switch (a x) { case 1: void; };", "itself"),
    ("union u switch (a x) { case 1: void; }; typedef a b; typedef b a;", "1:62: type b is defined by"),
    ("struct a { string x; };", "1:19: a string takes a limit: string x<64>, or string x<>"),
    ("struct a { string x[4]; };", "1:12: string does not go with x[n]: name it string x<n> by a typedef"),
    ("struct a { string *x; };", "1:12: string does not go with *x"),
    ("struct a { opaque *x; };", "1:12: opaque does not go with *x"),
    ("struct a { opaque x; };", "1:12: opaque takes a length: opaque x[16] or opaque x<16>"),
    ("struct a { opaque x[0]; };", "1:21: a length of 0: it can be from 1 to"),
    ("struct a { int x[300000]; };", "1:18: a length of 300000: it can be from 1 to 262144"),
    ("const N = -1; struct a { int x<N>; };", "1:32: a length of -1: it can be from 0 to 4294967295"),
    ("enum a { B = 0x80000000 };", "1:10: B = 2147483648 is not a signed 32-bit integer"),
    ("enum a { B = 0x7fffffff, C };", "1:26: C = 2147483648 is not a signed 32-bit integer"),
    ("union u switch (hyper x) { case 1: void; };", "1:17: a discriminant is an int, an unsigned int"),
    ("union u switch (int *x) { case 1: void; };", "1:17: a discriminant is"),
    ("struct s { int a; }; union u switch (s x) { case 1: void; };", "1:38: a discriminant is"),
    ("typedef int t[2]; union u switch (t x) { case 1: void; };", "1:35: a discriminant is"),
    ("union u switch (b x) { case 1: void; };", "1:17: nothing declares a type b"),
    ("union u switch (int x) { case 1: void; case 1: int y; };", "1:45: there is an arm for 1 already"),
    ("union u switch (bool x) { case 2: void; };", "1:32: 2 is not a value that x can have"),
    ("enum e { A = 3 }; union u switch (e x) { case 4: void; };", "1:47: 4 is not a value that x can have"),
    ("union u switch (unsigned x) { case -1: void; };", "1:36: -1 is not a value that x can have"),
    ("union u switch (int x) { case 0x80000000: void; };", "1:31: 2147483648 is not a value"),
)  # fmt: skip

PROCEDURES = (
    ("const A_PROGRAM = 5; enum e { A_PROC_X = 1 };", "1:7: no constant A_PROTOCOL_VERSION says its version"),
    ("const A_VERSION = 1; const A_PROGRAM = -1; enum e { A_PROC_X = 1 };", "1:28: program a: number"),
    (PROGRAM + "enum e { A_PROC_X = 1, B_PROC_Y = 2 };", "3:24: a procedure's name begins with A_PROC_"),
    (PROGRAM + "enum e { A_PROC_X = 1, A_PROC_Y = 1 };", "3:24: Y: number 1 of a already is X"),
    (
        PROGRAM + "struct a_x_msg { int i; }; struct a_x_ret { int i; };\nenum e { A_PROC_X = 1 };",
        "4:10: A_PROC_X is an event by a_x_msg, and none by a_x_ret",
    ),
    (PROGRAM + "enum e {\n /* @readstream: one */\n A_PROC_X = 1 };", "5:2: @readstream: 'one' is not a"),
    ("program P { version V { void X(void) = 1; void Y(void) = 1; } = 1; } = 5;", "1:48: Y: number 1 of p"),
    ("program P { version V { void X(void) = 0x80000000; } = 1; } = 5;", "1:30: X: number 2147483648"),
    ("program P { version V { void X(opaque) = 1; } = 1; } = 5;", "1:32: opaque takes a length"),
    ("program P { version V { foo X(void) = 1; } = 1; } = 5;", "1:25: nothing declares a type foo"),
    ("program P { version V { void X(void) = 1; } = 1; } = -5;", "1:21: program p: number and version"),
)  # fmt: skip


class MessageTests(TestCase):
    def check(self, cases: tuple[tuple[str, str], ...]) -> None:
        for text, expected in cases:
            with self.subTest(text), self.assertRaises(BadXDRFile) as caught:
                compile_text(text, "folder/f.x")
            self.assertIn(
                f"folder/f.x:{expected}" if expected[0].isdigit() else expected, str(caught.exception)
            )

    def test_syntax(self) -> None:
        """What does not follow the grammar; what would have been right is named."""
        self.check(SYNTAX)

    def test_meaning(self) -> None:
        """What follows the grammar and cannot be."""
        self.check(MEANING)

    def test_procedures(self) -> None:
        """Procedures and programs that cannot be."""
        self.check(PROCEDURES)

    def test_error(self) -> None:
        """It is a BadSchema that has its parts, and can be sent to another process."""
        with self.assertRaises(BadSchema) as caught:
            compile_text("\nconst A = B;", "f.x")
        error = pickle.loads(pickle.dumps(caught.exception))
        self.assertEqual((error.file, error.line, error.column), ("f.x", 2, 11))
        self.assertEqual(error.reason, "nothing declares a constant B")
        self.assertEqual(str(BadXDRFile("f.x", 0, 0, "wrong")), "f.x: wrong")

    def test_too_deep(self) -> None:
        """Definitions that lean on each other without end are an error like any other."""
        inline = "struct a { " + "struct { " * 3000 + "int x; " + "} x; " * 3000 + "};"
        chain = "".join(f"const A{n} = A{n + 1};" for n in range(3000)) + "const A3000 = 1;"
        for text in (inline, chain):
            self.assertRaisesRegex(BadXDRFile, "too deeply", compile_text, text)


class GoodTests(TestCase):
    def test_liberties(self) -> None:
        """What rpcgen takes, and what looks like a mistake and is none."""
        for text in (
            "",
            "// only a comment",
            "%anything { at all /* here",
            "/* %\n% */ const A = 1;",
            "enum a { B, C, };",
            "typedef struct a a; struct a { struct a *x; enum e y; }; enum e { E };",
            "enum e { mro, real, name, value, class };",
            "struct a { int version; int program; unsigned string; };",
            "const NONE_PROC_X = 1; enum e { OTHER_PROC_Y };",
            "const A = TRUE; const VIR_UUID_BUFLEN = 4; typedef opaque x[VIR_UUID_BUFLEN];",
            "union u switch (bool_t x) { case TRUE: void; default: u *y; };",
            "typedef int32_t t; union u switch (t x) { case -1: void; default: void; };",
            "typedef enum { A, B } e; union u switch (e x) { case A: case B: opaque y<>; };",
            "struct _ { int __; int _9; };",
            PROGRAM + "enum e { A_PROC_9P = 1, A_PROC_TRUE, A_PROC_FOO_1, A_PROC_FOO1 };",
        ):
            with self.subTest(text):
                compile_text(text)

    def test_names(self) -> None:
        """Names that cannot be Python's, or are there already, are changed."""
        found = compile_text(PROGRAM + "enum e { A_PROC_9P = 1, A_PROC_TRUE, A_PROC_FOO_1, A_PROC_FOO1 };")
        names = [each.request.__name__ for each in found.procedures]
        self.assertEqual(names, ["X9p", "True_", "Foo1", "Foo1_"])
        self.assertEqual(found.find("A_PROC_FOO1").__name__, "Foo1_")
        members = compile_text("enum e { mro, real, class, _x_ };").types["e"].__members__
        self.assertEqual(list(members), ["mro_", "real_", "class_", "x__"])
        fields = compile_text("struct s { int __; int _9; };").types["s"].__fields__
        self.assertEqual(fields, ("field_", "field_9_"))


class FuzzTests(TestCase):
    WORDS = (FILES / "weather.x").read_text().split()

    @QUICK
    @given(st.data())
    def test_damaged(self, data: st.DataObject) -> None:
        """A file that was cut, and whose words were lost or exchanged, compiles or is told to be wrong."""
        words = list(self.WORDS)
        for _ in range(data.draw(st.integers(1, 3))):
            place = data.draw(st.integers(0, len(words) - 1))
            words[place] = data.draw(st.sampled_from(["", "*", "{", "int", "entry", "0", "<", *words[:30]]))
        text = " ".join(words[: data.draw(st.integers(0, len(words)))]).replace("// ", "/**/")
        try:
            compile_text(text)
        except BadXDRFile as error:
            self.assertGreater(error.line, 0)

    @QUICK
    @given(st.text(max_size=40))
    def test_anything(self, text: str) -> None:
        """So does text of any kind."""
        with contextlib.suppress(BadXDRFile):
            compile_text(text)
