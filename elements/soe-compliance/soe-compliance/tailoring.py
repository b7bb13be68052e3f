"""Write an XCCDF tailoring that leaves nothing of a profile but the listed rules: tailoring.py CONTENT PROFILE LIST.

CONTENT is a SCAP source data stream or an XCCDF benchmark, PROFILE the full id of a profile in it, LIST a file with the
name of a rule on each line (the id without its prefix); what follows a # is a comment. A listed rule that the profile
does not select stays unselected. The tailoring (XCCDF 1.2, NIST IR 7275r4, section 6.7) goes to standard output.

Ends with status 1 and a message if the profile or a rule does not exist, a rule is listed twice, or it has no fix.
"""

import sys
from pathlib import Path
from xml.etree import ElementTree

XCCDF = "http://checklists.nist.gov/xccdf/1.2"
PREFIX = "xccdf_org.ssgproject.content_rule_"
BASH = "urn:xccdf:fix:script:sh"


def listed(text: str) -> list[str]:
    """The full ids of the rules in a list, in its order."""
    names = [name for line in text.splitlines() if (name := line.partition("#")[0].strip())]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        sys.exit(f"Listed twice: {', '.join(twice)}")
    return [PREFIX + name for name in names]


def tailoring(content: Path, profile: str, wanted: list[str]) -> ElementTree.Element:
    """The tailoring, with one profile in it that extends the given one."""
    rules, profiles = {}, set()
    # Root runs the remediations in this file: there is nothing left to distrust.
    for _, element in ElementTree.iterparse(content):  # noqa: S314
        if element.tag == f"{{{XCCDF}}}Rule":
            rules[element.get("id", "")] = any(fix.get("system") == BASH for fix in element.findall(f"{{{XCCDF}}}fix"))
        elif element.tag == f"{{{XCCDF}}}Profile":
            profiles.add(element.get("id", ""))
    if profile not in profiles:
        sys.exit(f"No profile {profile} in {content}; it has {', '.join(sorted(profiles)) or 'none'}")
    if unknown := [rule for rule in wanted if rule not in rules]:
        sys.exit(f"Not in {content}: {', '.join(unknown)}")
    if unfixed := [rule for rule in wanted if not rules[rule]]:
        sys.exit(f"Without a fix in {content}: {', '.join(unfixed)}")

    root = ElementTree.Element(f"{{{XCCDF}}}Tailoring", id="xccdf_org.soe-compliance_tailoring_remediations")
    ElementTree.SubElement(root, f"{{{XCCDF}}}version", time="1970-01-01T00:00:00").text = "1"
    tailored = ElementTree.SubElement(
        root, f"{{{XCCDF}}}Profile", id="xccdf_org.soe-compliance_profile_remediations", extends=profile
    )
    ElementTree.SubElement(tailored, f"{{{XCCDF}}}title").text = "Reviewed remediations"
    for rule in sorted(rules.keys() - set(wanted)):
        ElementTree.SubElement(tailored, f"{{{XCCDF}}}select", idref=rule, selected="false")
    # OpenSCAP 1.3.7 reads only every other element where no white space lies between them.
    ElementTree.indent(root)
    return root


if __name__ == "__main__":
    content, profile, rules = sys.argv[1:]
    result = tailoring(Path(content), profile, listed(Path(rules).read_text(encoding="utf-8")))
    ElementTree.register_namespace("", XCCDF)
    ElementTree.ElementTree(result).write(sys.stdout.buffer, encoding="utf-8", xml_declaration=True)
