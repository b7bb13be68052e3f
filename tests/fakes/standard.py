"""A small standard: a SCAP data stream, a tailoring file and results, written as the SCAP Security Guide and OpenSCAP
write theirs."""

from collections.abc import Mapping

NAMESPACE = "org.ssgproject.content"
BENCHMARK, PROFILE = "TEST-12", "strict_profile"
XCCDF = "http://checklists.nist.gov/xccdf/1.2"
_PROLOG = '<?xml version="1.0" encoding="utf-8"?>\n'


def identity(kind: str, name: str, namespace: str = NAMESPACE) -> str:
    return f"xccdf_{namespace}_{kind}_{name}"


def rule(
    name: str,
    selected: str = "false",
    severity: str = "medium",
    title: str | None = None,
    cluster: str | None = None,
    namespace: str = NAMESPACE,
    more: str = "",
) -> str:
    within = f' cluster-id="{cluster}"' if cluster else ""
    said = f"Rule {name}" if title is None else title
    return (
        f'<x:Rule id="{identity("rule", name, namespace)}" selected="{selected}" severity="{severity}"{within}>'
        f"<x:title>{said}</x:title><x:description>Why <b>so</b>.</x:description>{more}</x:Rule>"
    )


def group(name: str, inside: str, selected: str = "true") -> str:
    return f'<x:Group id="{identity("group", name)}" selected="{selected}"><x:title>{name}</x:title>{inside}</x:Group>'


def profile(
    name: str,
    choices: Mapping[str, bool],
    extends: str | None = None,
    title: str = "",
    severities: Mapping[str, str] | None = None,
    bare: bool = False,
) -> str:
    """`choices` and `severities` are by "rule_NAME" or "group_NAME", or, `bare`, by cluster."""
    prefix = "" if bare else f"xccdf_{NAMESPACE}_"
    base = f' extends="{identity("profile", extends)}"' if extends else ""
    said = "".join(
        f'<x:select idref="{prefix}{about}" selected="{str(value).lower()}"/>' for about, value in choices.items()
    )
    said += "".join(
        f'<x:refine-rule idref="{prefix}{about}" severity="{value}"/>' for about, value in (severities or {}).items()
    )
    return f'<x:Profile id="{identity("profile", name)}"{base}><x:title>{title}</x:title>{said}</x:Profile>'


def data_stream(rules: str, profiles: str, count: int = 1, platform: str = "cpe:/o:debian:debian_linux:12") -> bytes:
    benchmark = (
        f'<ds:component><x:Benchmark id="{identity("benchmark", BENCHMARK)}"><x:title>Test</x:title>'
        f'<x:platform idref="{platform}"/>{profiles}{rules}</x:Benchmark></ds:component>'
    )
    return (
        f'{_PROLOG}<ds:data-stream-collection xmlns:ds="http://scap.nist.gov/schema/scap/source/1.2" xmlns:x="{XCCDF}">'
        f"{benchmark * count}</ds:data-stream-collection>"
    ).encode()


def tailoring(profiles: str) -> bytes:
    return f'{_PROLOG}<x:Tailoring xmlns:x="{XCCDF}" id="xccdf_t_tailoring_t">{profiles}</x:Tailoring>'.encode()


def results(
    outcomes: Mapping[str, str],
    *,
    profile_name: str = PROFILE,
    more: Mapping[str, str] | None = None,
    inside: str = "",
    severity: str = "medium",
    count: int = 1,
) -> bytes:
    """What oscap writes for each rule by its name; `more` are second results, `inside` is in the benchmark."""
    said = "".join(
        f'<rule-result idref="{identity("rule", name)}" severity="{severity}"><result>{outcome}</result></rule-result>'
        for name, outcome in [*outcomes.items(), *(more or {}).items()]
    )
    result = (
        f'<TestResult id="r"><benchmark href="/x" id="{identity("benchmark", BENCHMARK)}"/>'
        f'<profile idref="{identity("profile", profile_name)}"/>{said}</TestResult>'
    )
    return (
        f'{_PROLOG}<Benchmark xmlns="{XCCDF}" xmlns:x="{XCCDF}" id="{identity("benchmark", BENCHMARK)}">'
        f"{inside}{result * count}</Benchmark>"
    ).encode()
