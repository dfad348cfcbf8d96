"""Commands against a real destination: results, exit statuses, one-line errors."""

from __future__ import annotations

import json
import os
import stat
import subprocess

from tests.cli.support import RealCase

MIB = 1024 * 1024


class TransferTests(RealCase):
    """C{send} and C{receive}."""

    def test_round_trip(self) -> None:
        """A file goes there and comes back the same, over TLS and the UNIX socket."""
        source = self.file("round", 5 * MIB + 17)
        digest = self.done("digest", str(source)).stdout.decode().strip()
        for number, url in enumerate((self.tls + "round-tls", self.unix("round-unix"))):
            sent = self.done("send", str(source), url, "--json").objects[-1]
            self.assertEqual(sent["event"], "done")
            self.assertEqual((sent["bytes"], sent["digest"]), (5 * MIB + 17, digest))
            self.assertEqual((sent["resumed_from"], sent["lane"]), (0, sent["lane"]))
            self.assertEqual(sent["tls"], None if number else "TLSv1.3")
            self.assertGreater(sent["seconds"], 0)
            target = self.folder / f"back-{number}"
            received = self.done("receive", url, str(target), "--json").objects[-1]
            self.assertEqual((received["event"], received["digest"]), ("done", digest))
            self.assertEqual(target.read_bytes(), source.read_bytes())

    def test_text(self) -> None:
        """Without --json stdout has one line, which begins with the digest."""
        source = self.file("text", 1000)
        digest = self.done("digest", str(source)).stdout.decode().strip()
        line = self.done("send", str(source), self.tls + "text").stdout.decode()
        self.assertTrue(line.startswith(f"{digest}  text: "), line)
        self.assertEqual(line.count("\n"), 1)

    def test_empty_and_sparse(self) -> None:
        """No bytes at all; and holes, which do not cross the wire and stay holes."""
        empty = self.file("empty", 0)
        self.assertEqual(self.done("send", str(empty), self.tls + "empty", "--json").objects[-1]["bytes"], 0)
        self.assertEqual((self.store / "empty").stat().st_size, 0)
        sparse = self.file("sparse", 100)
        os.truncate(sparse, 64 * MIB)
        done = self.done("send", str(sparse), self.tls + "sparse", "--json").objects[-1]
        self.assertLess(done["sent_bytes"], MIB)
        self.assertGreater(done["hole_bytes"], 63 * MIB)
        self.assertLess((self.store / "sparse").stat().st_blocks * 512, MIB)
        self.assertEqual((self.store / "sparse").stat().st_size, 64 * MIB)

    def test_same_again(self) -> None:
        """The same command for the same file is recognised, also without --replace; a changed file is not."""
        source = self.file("again", 3 * MIB)
        self.done("send", str(source), self.tls + "again")
        done = self.done("send", str(source), self.tls + "again", "--json").objects[-1]
        self.assertEqual((done["resumed_from"], done["sent_bytes"]), (3 * MIB, 0))
        source.write_bytes(os.urandom(2 * MIB))
        self.assert_error(self.command("send", str(source), self.tls + "again"), 1, "--replace")
        self.done("send", str(source), self.tls + "again", "--replace")
        self.assertEqual((self.store / "again").read_bytes(), source.read_bytes())
        done = self.done(
            "send", str(source), self.tls + "again", "--replace", "--no-resume", "--json"
        ).objects[-1]
        self.assertEqual(done["sent_bytes"], 2 * MIB)

    def test_changed_remote(self) -> None:
        """C{receive --replace} notices that the name holds other content of the same size by now."""
        first, second = self.file("first", MIB), self.file("second", MIB)
        target = self.folder / "changing"
        for source in (first, second):
            self.done("send", str(source), self.tls + "changing", "--replace")
            self.done("receive", self.tls + "changing", str(target), "--replace")
            self.assertEqual(target.read_bytes(), source.read_bytes())

    def test_pipe(self) -> None:
        """Standard input, of known and unknown size; a wrong size publishes nothing."""
        content = os.urandom(5 * MIB)
        self.done("send", "-", self.tls + "pipe", given=content)
        self.assertEqual((self.store / "pipe").read_bytes(), content)
        self.done("send", "-", self.tls + "pipe-sized", "--size", "5M", given=content)
        for size in ("4M", "6M"):
            finished = self.command("send", "-", self.tls + "pipe-wrong", "--size", size, given=content)
            self.assert_error(finished, 1, "check --size")
            self.assertFalse((self.store / "pipe-wrong").exists())
        self.done("partials", self.tls + "pipe-wrong", "--remove")

    def test_mode(self) -> None:
        """C{--mode} is the mode of the new file, on either side; otherwise a received one has the mask's."""
        source = self.file("mode", 10)
        self.done("send", str(source), self.tls + "mode", "--mode", "0640")
        self.assertEqual(stat.S_IMODE((self.store / "mode").stat().st_mode), 0o640)
        target = self.folder / "mode-back"
        self.done("receive", self.tls + "mode", str(target), "--mode", "444")
        self.assertEqual(stat.S_IMODE(target.stat().st_mode), 0o444)
        self.done("receive", self.tls + "mode", str(self.folder / "mode-mask"), umask=0o027)
        self.assertEqual(stat.S_IMODE((self.folder / "mode-mask").stat().st_mode), 0o640)

    def test_receive_into_directory(self) -> None:
        """A directory as target means the same name in it; an existing file needs --replace."""
        self.done("send", str(self.file("into", 10)), self.tls + "into")
        directory = self.folder / "directory"
        directory.mkdir()
        self.done("receive", self.tls + "into", str(directory))
        self.assertEqual((directory / "into").stat().st_size, 10)
        (directory / "into").write_bytes(b"other")
        self.assert_error(self.command("receive", self.tls + "into", str(directory)), 1, "--replace")
        missing = self.command("receive", self.tls + "into", str(directory / "none" / "x"))
        self.assert_error(missing, 1, "no such directory")

    def test_bwlimit(self) -> None:
        """A rate limit holds in both directions."""
        source = self.file("slow", 16 * MIB)
        sent = self.done("send", str(source), self.tls + "slow", "--bwlimit", "10M", "--json").objects[-1]
        self.assertGreater(sent["seconds"], 1.1)
        arguments = ("receive", self.tls + "slow", str(self.folder / "slow-back"), "--bwlimit", "10M")
        objects = self.done(*arguments, "--json").objects
        self.assertGreater(objects[-1]["seconds"], 1.1)
        self.assertIn("rate limit", [each.get("stalled_by") for each in objects])

    def test_retry(self) -> None:
        """C{--retry} tries again what may pass, says so on stderr, and fails at last."""
        finished = self.command("list", "rpcstream+tls://127.0.0.1:1/")
        self.assert_error(finished, 1, "connection refused")
        source = self.file("retry", 10)
        finished = self.command("send", str(source), "rpcstream+tls://127.0.0.1:1/x", "--retry", "1")
        lines = finished.stderr.splitlines()
        self.assertEqual((finished.status, len(lines)), (1, 2), finished.stderr)
        self.assertIn("trying again in", lines[0])
        self.assertIn("(1 of 1)", lines[0])

    def test_errors(self) -> None:
        """Missing source, refused names, no certificates: one line each, with a remedy."""
        source = self.file("errors", 10)
        self.assert_error(
            self.command("send", str(self.folder / "nope"), self.tls + "x"), 1, "check the path"
        )
        self.assert_error(self.command("send", str(self.folder), self.tls + "x"), 1, "neither a file nor")
        self.assert_error(self.command("send", str(source), self.tls + "..%2Fx"), 1, "plain name")
        self.assert_error(
            self.command("send", str(source), self.tls + "x", "--pki", "/nonexistent"),
            1,
            "rpcstream pki init",
        )
        self.assert_error(
            self.command("receive", self.tls + "none", "x", cwd=self.folder), 1, "rpcstream list"
        )
        self.assert_error(self.command("send", str(source), "rpcstream+tcp://192.0.2.1/x"), 1, "--insecure")

    def test_json_error(self) -> None:
        """With --json the last object is the error, and stderr still has the line."""
        finished = self.command("stat", self.tls + "none", "--json")
        self.assert_error(finished, 1, "none")
        last = finished.objects[-1]
        self.assertEqual((last["event"], last["code"]), ("error", "no-such-name"))
        self.assertTrue(last["message"])


class PoolTests(RealCase):
    """C{list}, C{stat}, C{remove}, C{peek}, C{partials}, C{ping}."""

    def test_list_stat_remove(self) -> None:
        """A file is listed, described, removed, and then gone."""
        source = self.file("seen", 12345)
        digest = self.done("digest", str(source)).stdout.decode().strip()
        self.done("send", str(source), self.tls + "seen")
        (line,) = [each for each in self.done("list", self.tls).lines if each[0] == "seen"]
        self.assertEqual((line[2], line[5]), ("12345", digest))
        self.assertEqual(self.done("list", self.tls + "seen").lines, [line])
        described = dict(self.done("stat", self.tls + "seen").lines)
        self.assertEqual((described["size"], described["digest"]), ("12345", digest))
        last = self.done("stat", self.tls + "seen", "--json").objects
        self.assertEqual([(each["event"], each["digest"]) for each in last], [("done", digest)])
        objects = self.done("list", self.tls, "--json").objects
        self.assertEqual(objects[-1], {"event": "done", "count": len(objects) - 1})
        self.assertEqual(self.done("remove", self.tls + "seen").stdout, b"")
        self.assert_error(self.command("remove", self.tls + "seen"), 1, "'seen'")
        self.assertFalse((self.store / "seen").exists())

    def test_peek(self) -> None:
        """Any range comes out exactly; one past the end is cut; JSON goes to stderr."""
        source = self.file("peeked", 3 * MIB)
        content = source.read_bytes()
        self.done("send", str(source), self.tls + "peeked")
        url = self.tls + "peeked"
        self.assertEqual(self.done("peek", url).stdout, content)
        part = self.done("peek", url, "--offset", "1M", "--length", "100").stdout
        self.assertEqual(part, content[MIB : MIB + 100])
        tail = self.done("peek", url, "--offset", str(3 * MIB - 5), "--length", "1K").stdout
        self.assertEqual(tail, content[-5:])
        finished = self.command("peek", url, "--length", "7", "--json")
        self.assertEqual((finished.status, finished.stdout), (0, content[:7]))
        self.assertEqual(json.loads(finished.stderr)["bytes"], 7)

    def test_reader_gone(self) -> None:
        """Whoever reads the bytes leaves: no traceback, no success."""
        source = self.file("leaving", 8 * MIB)
        self.done("send", str(source), self.tls + "leaving")
        process = self.start("peek", self.tls + "leaving")
        assert process.stdout is not None
        self.assertEqual(len(process.stdout.read(1000)), 1000)
        process.stdout.close()
        process.stdout = subprocess.DEVNULL and None
        finished = self.finish(process)
        self.assertEqual(finished.status, 1)
        self.assertNotIn("Traceback", finished.stderr)

    def test_list_unread(self) -> None:
        """Whoever wanted the list has gone, as head(1) does: quietly, but no success."""
        self.done("send", str(self.file("unread", 1)), self.tls + "unread", "--replace")
        process = self.start("list", self.tls)
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        finished = self.finish(process)
        self.assertEqual((finished.status, finished.stderr), (1, ""))

    def test_partials(self) -> None:
        """Nothing unfinished: nothing printed; asking for a name shows its own only."""
        self.assertEqual(self.done("partials", self.tls + "no-such").stdout, b"")
        self.assertEqual(
            self.done("partials", self.tls + "no-such", "--remove", "--json").objects[-1]["count"], 0
        )

    def test_ping(self) -> None:
        """Tells software, protection and round trip."""
        self.assertIn(b"TLSv1.3", self.done("ping", self.tls).stdout)
        last = self.done("ping", self.unix(""), "--json").objects[-1]
        self.assertEqual((last["event"], last["tls"]), ("done", None))
        self.assertGreater(last["seconds"], 0)

    def test_pki_url(self) -> None:
        """The pki directory may be named by --pki or in the URL."""
        environment = {"RPCSTREAM_PKI": "/nonexistent"}
        for arguments in ((self.tls, "--pki", str(self.pki)), (f"{self.tls}?pkipath={self.pki}",)):
            self.done("ping", *arguments, environment=environment)
        self.assert_error(self.command("ping", self.tls, environment=environment), 1, "/nonexistent")
