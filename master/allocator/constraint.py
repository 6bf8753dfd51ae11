"""Offer constraints: which agents a framework wants offers of (reference mesos §1.5).

For each role: any of its groups, of a group all tests. Regular expressions are
RE2's, which run in linear time, of bounded memory and program size.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import re2

from phalanx.core.error import InvalidError
from phalanx.mesos.v1.mesos import AgentInfo, ValueType
from phalanx.mesos.v1.scheduler import (
    AttributeConstraint,
    AttributeConstraintPredicate,
    AttributeConstraintSelector,
    OfferConstraints,
)

MAX_VERDICTS = 4096


@dataclass(frozen=True, slots=True)
class RegexLimits:
    """How much a regular expression may cost: bytes of memory, instructions."""

    max_bytes: int = 4096
    max_program: int = 100


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What constraints look at; of an attribute that is no text the value is None."""

    hostname: str
    region: str | None
    zone: str | None
    attributes: Mapping[str, str | None]
    _verdicts: dict["RoleConstraint", bool] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, info: AgentInfo) -> "Features":
        """Return the features of an agent; of attributes with one name the first counts."""
        attributes: dict[str, str | None] = {}
        for attribute in info.attributes:
            is_text = attribute.type == ValueType.TEXT and attribute.text is not None
            value = attribute.text.value if is_text and attribute.text is not None else None
            attributes.setdefault(attribute.name, value)
        domain = info.domain.fault_domain if info.domain is not None else None
        return cls(
            info.hostname,
            domain.region.name if domain is not None else None,
            domain.zone.name if domain is not None else None,
            attributes,
        )


# Whether there is such an attribute, and its text if it is one.
_Look = Callable[[Features], tuple[bool, str | None]]
_Test = Callable[[Features], bool]


@dataclass(frozen=True, slots=True, eq=False)
class RoleConstraint:
    """The constraints of one framework in one role."""

    groups: tuple[tuple[_Test, ...], ...]

    def admits(self, features: Features) -> bool:
        """Tell whether an agent may be offered."""
        verdicts = features._verdicts
        known = verdicts.get(self)
        if known is None:
            if len(verdicts) >= MAX_VERDICTS:
                verdicts.clear()
            known = any(all(test(features) for test in group) for group in self.groups)
            verdicts[self] = known
        return known


def compiled(
    constraints: OfferConstraints | None, limits: RegexLimits
) -> Mapping[str, RoleConstraint]:
    """Return constraints by role, ready to be asked; raise InvalidError for what can't be one."""
    found = {}
    for role, its in (constraints.role_constraints if constraints is not None else {}).items():
        if not its.groups:
            raise InvalidError(
                "'OfferConstraints::role_constraints' has an empty"
                f" 'RoleConstraints::groups' for role {role}"
            )
        groups = []
        for group in its.groups:
            if not group.attribute_constraints:
                raise InvalidError(
                    f"'OfferConstraints::RoleConstraints::groups' for role {role}"
                    " contains an empty RoleConstraints::Group"
                )
            try:
                groups.append(tuple(_test(item, limits) for item in group.attribute_constraints))
            except InvalidError as error:
                raise InvalidError(
                    f"A role {role} has an invalid 'AttributeConstraint': {error}"
                ) from error
        found[role] = RoleConstraint(tuple(groups))
    return found


def _test(constraint: AttributeConstraint, limits: RegexLimits) -> _Test:
    look = _look(constraint.selector)
    holds = _predicate(constraint.predicate, limits)
    return lambda features: holds(*look(features))


def _look(selector: AttributeConstraintSelector) -> _Look:
    name = selector.attribute_name
    if (name is None) == (selector.pseudoattribute_type is None):
        raise InvalidError(
            "Exactly one of 'AttributeConstraint::Selector::name' or"
            " 'AttributeConstraint::Selector::pseudoattribute_type' must be set"
        )
    match selector.pseudoattribute_type:
        case None:
            assert name is not None  # exactly one of the two is set
            return lambda its: (name in its.attributes, its.attributes.get(name))
        case "HOSTNAME":
            return lambda its: (True, its.hostname)
        case "REGION":
            return lambda its: (its.region is not None, its.region)
        case "ZONE":
            return lambda its: (its.zone is not None, its.zone)
        case _:
            raise InvalidError("Unknown pseudoattribute type")


def _predicate(
    predicate: AttributeConstraintPredicate, limits: RegexLimits
) -> Callable[[bool, str | None], bool]:
    """Return a test of whether there is an attribute, and of its text.

    Of an attribute that is no text every predicate on texts is true.
    """
    match predicate:
        case AttributeConstraintPredicate(exists=its) if its is not None:
            return lambda is_there, _: is_there
        case AttributeConstraintPredicate(not_exists=its) if its is not None:
            return lambda is_there, _: not is_there
        case AttributeConstraintPredicate(text_equals=its) if its is not None:
            value = its.value
            return lambda is_there, text: is_there and (text is None or text == value)
        case AttributeConstraintPredicate(text_not_equals=its) if its is not None:
            other = its.value
            return lambda is_there, text: not is_there or text is None or text != other
        case AttributeConstraintPredicate(text_matches=its) if its is not None:
            matches = regex(its.regex, limits)
            return lambda is_there, text: is_there and (text is None or matches(text))
        case AttributeConstraintPredicate(text_not_matches=its) if its is not None:
            hits = regex(its.regex, limits)
            return lambda is_there, text: not is_there or text is None or not hits(text)
        case _:
            raise InvalidError("Unknown predicate type")


def regex(pattern: str, limits: RegexLimits) -> Callable[[str], bool]:
    """Return a test of whole texts; raise InvalidError for a bad or a costly pattern."""
    options = re2.Options()
    options.max_mem = limits.max_bytes
    options.log_errors = False
    try:
        program = re2.compile(pattern, options)
    except (re2.error, UnicodeError) as error:
        why = error.args[0] if error.args else error
        text = why.decode(errors="replace") if isinstance(why, bytes) else str(why)
        raise InvalidError(f"Failed to construct regex from pattern '{pattern}': {text}") from error
    if program.programsize > limits.max_program:
        raise InvalidError(
            f"Regex '{pattern}' is too complex: program size of {program.programsize}"
            f" is larger than maximum of {limits.max_program} allowed"
        )
    return lambda text: program.fullmatch(text) is not None
