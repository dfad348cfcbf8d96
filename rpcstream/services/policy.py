"""
Who may do what: pure decisions, no input or output.

A policy is asked twice.  First with the header and the identity alone, before
any argument is decoded: then C{resource} and C{pool} are L{None}, which means
I{not known}, and the question is whether the principal may use the permission
at all.  Once the name is known it is asked again, and again at publishing.
For a call that has no name (a listing), the answer to the first question is
the answer; whoever lists asks for each name that it would show.

Identities come from L{rpcstream.net}: a certificate's name, a UNIX peer's, or
C{anonymous} for a peer on an endpoint without authentication.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fnmatch import translate
from typing import Final, NamedTuple, Protocol

import attrs

__all__ = [
    "ANONYMOUS",
    "AllowAll",
    "Decision",
    "Policy",
    "Rule",
    "RulePolicy",
    "allow",
    "any_authenticated",
]

ANONYMOUS: Final = "anonymous"
"""Name of a peer that nobody authenticated."""

_DEFAULT_POOL = "default"
# HELLO, credit and CANCEL concern the peer's own connection only.  Without them
# a peer that may do nothing would learn so by a puzzling refusal of its HELLO.
_CONNECTION_PERMISSIONS = frozenset({"flow"})


class Decision(NamedTuple):
    """
    The answer of a policy.

    @ivar allowed: whether it may go on.
    @ivar reason: a sentence for the peer and the audit log.
    @ivar rule: which rule decided; C{"default"} if none matched.
    """

    allowed: bool
    reason: str
    rule: str


class Policy(Protocol):
    """Decides; must neither block nor raise."""

    def decide(
        self, principal_name: str, permission: str, resource: str | None, pool: str | None = None
    ) -> Decision:
        """
        May C{principal_name} use C{permission}?

        @param principal_name: the authenticated name, or L{ANONYMOUS}.
        @param permission: what the procedure declares, such as C{"transfer.write"}.
        @param resource: the name in the pool; L{None} if there is none or it is not known yet.
        @param pool: the pool, C{""} for the default one; L{None} as for C{resource}.
        """


@attrs.frozen
class AllowAll:
    """
    Every authenticated principal may do everything.

    @ivar anonymous: whether peers without authentication may, too: only for
        servers that were started with C{--insecure}.
    """

    anonymous: bool = False

    def decide(
        self, principal_name: str, permission: str, resource: str | None, pool: str | None = None
    ) -> Decision:
        """See L{Policy.decide}."""
        if principal_name not in ("", ANONYMOUS):
            return Decision(True, "any authenticated peer may do this", "any-authenticated")
        if self.anonymous:
            return Decision(True, "anyone may do this", "anyone")
        return Decision(False, f"{permission} needs an authenticated peer", "any-authenticated")


any_authenticated: Final = AllowAll()
"""The policy to write where each certificate of the configured CA may do everything."""


class _Patterns:
    """Shell patterns, each matched against the whole value; compiled once."""

    __slots__ = ("_expression", "_literals", "texts")

    def __init__(self, texts: Iterable[str]) -> None:
        if isinstance(texts, str):
            raise TypeError("a list of patterns is expected, not a single string")
        self.texts = tuple(texts)
        # A literal matches itself even where its brackets make it a pattern.
        self._literals = frozenset(self.texts)
        expression = "|".join(map(translate, self.texts))
        self._expression = re.compile(expression) if self.texts else None

    def matches(self, value: str) -> bool:
        return value in self._literals or (
            self._expression is not None and bool(self._expression.match(value))
        )

    def matches_principal(self, name: str) -> bool:
        # "*" means every principal, and a peer that nobody authenticated is none:
        # it has to be named.
        return name in self._literals if name in ("", ANONYMOUS) else self.matches(name)

    @property
    def matches_everything(self) -> bool:
        return "*" in self._literals

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)

    def __eq__(self, other: object) -> bool:
        return self.texts == other.texts if isinstance(other, _Patterns) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.texts)

    def __repr__(self) -> str:
        return repr(list(self.texts))


_EVERYTHING = _Patterns(["*"])


@attrs.frozen
class Rule:
    """
    One line of a policy.  All four lists must match; C{*}, C{?} and C{[...]} are
    allowed in each of them, and case counts.

    @ivar principals: names of peers; C{*} does not match L{ANONYMOUS}.
    @ivar permissions: such as C{transfer.*}.
    @ivar pools: the default pool is called C{default}.
    @ivar names: names in those pools.
    @ivar deny: refuse what matches, instead of allowing it.
    @ivar reason: told to the refused peer.
    """

    principals: _Patterns = attrs.field(converter=_Patterns)
    permissions: _Patterns = attrs.field(converter=_Patterns)
    pools: _Patterns = attrs.field(default=_EVERYTHING, converter=_Patterns)
    names: _Patterns = attrs.field(default=_EVERYTHING, converter=_Patterns)
    deny: bool = False
    reason: str = ""

    def applies(self, principal_name: str, permission: str, resource: str | None, pool: str | None) -> bool:
        """
        Whether all four lists match.  What is L{None} is not known: a rule that
        allows some names then applies, because the call may turn out to be for
        one of them; a rule that denies some names does not, for the same reason.
        """
        return (
            self.principals.matches_principal(principal_name)
            and self.permissions.matches(permission)
            and self._covers(self.pools, pool)
            and self._covers(self.names, resource)
        )

    def _covers(self, patterns: _Patterns, value: str | None) -> bool:
        if value is None:
            return patterns.matches_everything or not self.deny
        return patterns.matches(value)


def _rules(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    return tuple(rules)


@attrs.frozen
class RulePolicy:
    """
    Rules in order; the first that applies decides, and without one the answer is
    no.  No rules at all: nobody may do anything.
    """

    rules: tuple[Rule, ...] = attrs.field(default=(), converter=_rules)

    def decide(
        self, principal_name: str, permission: str, resource: str | None, pool: str | None = None
    ) -> Decision:
        """See L{Policy.decide}."""
        pool = _DEFAULT_POOL if pool == "" else pool
        for number, rule in enumerate(self.rules, 1):
            if rule.applies(principal_name, permission, resource, pool):
                label = f"rule {number}"
                if rule.deny:
                    return Decision(False, rule.reason or f"{permission} is denied by {label}", label)
                return Decision(True, rule.reason or f"{permission} is allowed by {label}", label)
        if permission in _CONNECTION_PERMISSIONS:
            return Decision(True, "part of every connection", "connection")
        return Decision(False, f"no rule allows {permission}", "default")


def allow(**permissions: Iterable[str]) -> RulePolicy:
    """
    A policy in one line: C{allow(alice={"files.read", "files.write"})}.

    @param permissions: for each principal the permissions it has; both may be
        patterns, as in L{Rule}.
    """
    return RulePolicy(Rule([principal], patterns) for principal, patterns in permissions.items())
