"""Who may do what."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from rpcstream.net import identity
from rpcstream.net.service import Decides
from rpcstream.services.policy import (
    ANONYMOUS,
    AllowAll,
    Decision,
    Policy,
    Rule,
    RulePolicy,
    allow,
    any_authenticated,
)


def allowed(policy: Policy, principal: str, permission: str, *place: str | None) -> bool:
    """Whether the policy allows it; C{place} is resource and pool."""
    resource, pool = (*place, None, None)[:2]
    return policy.decide(principal, permission, resource, pool).allowed


class AllowAllTests(TestCase):
    """Without a policy file."""

    def test_authenticated(self) -> None:
        """Each authenticated peer may do everything."""
        self.assertTrue(allowed(any_authenticated, "alice", "transfer.remove", "disk", "default"))

    def test_anonymous(self) -> None:
        """A peer that nobody authenticated may do nothing, unless the operator said so."""
        for name in (ANONYMOUS, ""):
            self.assertFalse(allowed(any_authenticated, name, "transfer.read", "disk"))
            self.assertTrue(allowed(AllowAll(anonymous=True), name, "transfer.read", "disk"))


class RulePolicyTests(TestCase):
    """Rules of a policy file."""

    def test_no_rules(self) -> None:
        """No rules at all: nobody may do anything, and the reason says why."""
        decision = RulePolicy().decide("alice", "transfer.read", None)
        self.assertEqual(decision, Decision(False, "no rule allows transfer.read", "default"))

    def test_empty_lists(self) -> None:
        """A rule with an empty list matches nothing, not everything."""
        self.assertFalse(allowed(RulePolicy([Rule([], ["*"])]), "alice", "x"))
        self.assertFalse(allowed(RulePolicy([Rule(["*"], [])]), "alice", "x"))
        self.assertFalse(allowed(RulePolicy([Rule(["*"], ["*"], names=[])]), "alice", "x", "disk"))

    def test_connection(self) -> None:
        """HELLO and credit are part of any connection, unless a rule denies them."""
        self.assertTrue(allowed(RulePolicy(), "alice", "flow"))
        self.assertFalse(allowed(RulePolicy([Rule(["alice"], ["*"], deny=True)]), "alice", "flow"))

    def test_all_four_lists_must_match(self) -> None:
        """Principal, permission, pool and name."""
        policy = RulePolicy([Rule(["alice"], ["transfer.*"], ["backups"], ["disk-*"])])
        self.assertTrue(allowed(policy, "alice", "transfer.write", "disk-1", "backups"))
        self.assertFalse(allowed(policy, "bob", "transfer.write", "disk-1", "backups"))
        self.assertFalse(allowed(policy, "alice", "jobs.submit", "disk-1", "backups"))
        self.assertFalse(allowed(policy, "alice", "transfer.write", "disk-1", ""))
        self.assertFalse(allowed(policy, "alice", "transfer.write", "other", "backups"))

    def test_whole_values(self) -> None:
        """A pattern is compared with the whole value, and case counts."""
        policy = RulePolicy([Rule(["virt"], ["transfer.read"])])
        for name in ("libvirtd", "virt2", "Virt", "virt\n", "\nvirt"):
            self.assertFalse(allowed(policy, name, "transfer.read"), name)
        self.assertFalse(allowed(policy, "virt", "transfer.read.all"))

    def test_literal_brackets(self) -> None:
        """A name with the signs of a pattern matches itself."""
        policy = RulePolicy([Rule(["a[1]"], ["*"])])
        self.assertTrue(allowed(policy, "a[1]", "x"))
        self.assertTrue(allowed(policy, "a1", "x"))

    def test_default_pool(self) -> None:
        """The empty pool name is the pool called default."""
        policy = RulePolicy([Rule(["*"], ["*"], pools=["default"])])
        self.assertTrue(allowed(policy, "alice", "x", "disk", ""))
        self.assertTrue(allowed(policy, "alice", "x", "disk", "default"))

    def test_anonymous_is_not_everyone(self) -> None:
        """A star means every principal; who is not authenticated has to be named."""
        self.assertFalse(allowed(RulePolicy([Rule(["*", "anony*"], ["*"])]), ANONYMOUS, "x"))
        self.assertFalse(allowed(RulePolicy([Rule(["*"], ["*"])]), "", "x"))
        self.assertTrue(allowed(RulePolicy([Rule(["anonymous"], ["*"])]), ANONYMOUS, "x"))

    def test_first_match_wins(self) -> None:
        """A rule that denies shields from a later one that allows, with its reason."""
        policy = RulePolicy(
            [
                Rule(["bob"], ["transfer.remove"], deny=True, reason="bob removed too much"),
                Rule(["*"], ["transfer.*"]),
            ]
        )
        self.assertEqual(
            policy.decide("bob", "transfer.remove", "disk"), Decision(False, "bob removed too much", "rule 1")
        )
        self.assertEqual(policy.decide("bob", "transfer.read", "disk").rule, "rule 2")
        silent = RulePolicy([Rule(["*"], ["*"], deny=True)])
        self.assertEqual(silent.decide("bob", "x", None).reason, "x is denied by rule 1")

    def test_unknown_name(self) -> None:
        """Before the name is known, what may be allowed goes on and is asked again."""
        policy = RulePolicy(
            [Rule(["*"], ["*"], names=["secret"], deny=True), Rule(["alice"], ["*"], names=["a*"])]
        )
        self.assertTrue(allowed(policy, "alice", "transfer.read"))
        self.assertFalse(allowed(policy, "alice", "transfer.read", "secret"))
        self.assertFalse(allowed(policy, "bob", "transfer.read"))

    names = st.sampled_from(["a", "ab", "b", "*"])
    lists = st.lists(st.sampled_from(["a", "ab", "b", "*", "a*", "?"]), min_size=1, max_size=2)
    rules = st.lists(st.builds(Rule, lists, lists, lists, lists, st.booleans()), max_size=4)

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(rules, names, names, names, names)
    def test_unknown_never_refuses_too_early(
        self, rules: list[Rule], principal: str, permission: str, resource: str, pool: str
    ) -> None:
        """Whatever is allowed when all is known is allowed while it is not."""
        policy = RulePolicy(rules)
        if allowed(policy, principal, permission, resource, pool):
            for place in ((None, None), (resource, None), (None, pool)):
                self.assertTrue(allowed(policy, principal, permission, *place))


class AllowTests(TestCase):
    """The policy in one line."""

    def test_allow(self) -> None:
        """Each principal has its permissions, and nobody else any."""
        policy = allow(alice={"files.read", "files.w*"}, **{"*": {"files.stat"}})
        self.assertTrue(allowed(policy, "alice", "files.write", "disk"))
        self.assertTrue(allowed(policy, "bob", "files.stat", "disk"))
        self.assertFalse(allowed(policy, "bob", "files.read", "disk"))
        self.assertFalse(allowed(allow(), "bob", "files.read"))

    def test_single_string(self) -> None:
        """A single string is not taken apart into letters."""
        self.assertRaises(TypeError, allow, alice="files.read")

    def test_values(self) -> None:
        """Rules are values: equal, hashable, readable."""
        self.assertEqual(Rule(["a"], ["b"]), Rule(("a",), ("b",)))
        self.assertNotEqual(Rule(["a"], ["b"]), Rule(["a"], ["c"]))
        self.assertNotEqual(Rule(["a"], ["b"]).principals, ("a",))
        self.assertEqual(len({Rule(["a"], ["b"]), Rule(["a"], ["b"])}), 1)
        self.assertIn("principals=['a']", repr(Rule(["a"], ["b"])))


class AgreementTests(TestCase):
    """What the network layer, which must not import this one, knows of policies."""

    def test_anonymous(self) -> None:
        """Both mean the same name."""
        self.assertEqual(ANONYMOUS, identity.ANONYMOUS)

    def test_protocol(self) -> None:
        """A policy is called as the network layer calls it."""
        policies: list[Decides] = [any_authenticated, RulePolicy()]
        for policy in policies:
            self.assertIn(policy.decide("alice", "x", None).allowed, (True, False))
