"""Where a statement comes from, as a mark behind it: ``{from}`derived here```.

What each mark says stands in *Sources*, to which it leads.
"""

from __future__ import annotations

from docutils import nodes
from docutils.nodes import Node, system_message
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole

#: What a mark may say, and what that means.
MARKS = {
    "derived here": "our own reasoning, given as a derivation and checked by a test",
    "inferred": "not stated anywhere; the one reading that fits what is stated",
    "read in code": "read in source code or configuration that anybody can read",
    "read off a figure": "taken from the curves of a published figure",
    "third party": "somebody else's summary of a paper that we have not read",
    "author's page": "what an author writes about the paper on his own page",
    "abstract": "the paper's own words; only the abstract was read",
    "not found": "not available to us: swept, or chosen and named",
    "ours": "a choice of this book, not of a paper",
}


class From(SphinxRole):
    """The role: a mark that leads to its meaning. Another text than those of :data:`MARKS` is an error."""

    def run(self) -> tuple[list[Node], list[system_message]]:
        if self.text not in MARKS:
            allowed = ", ".join(MARKS)
            said = f"from = {self.text!r} is not allowed; allowed: {allowed}"
            message = self.inliner.reporter.error(said, line=self.lineno)
            return [self.inliner.problematic(self.rawtext, self.rawtext, message)], [message]
        kind = self.text.replace(" ", "-").replace("'", "")
        options = {"refdomain": "std", "reftype": "ref", "refexplicit": True, "refwarn": True}
        target = pending_xref("", reftarget="where-a-statement-comes-from", **options)
        target += nodes.inline(self.text, self.text)
        target["refdoc"] = self.env.docname
        return [nodes.inline("", "", target, classes=["from", f"from-{kind}"])], []


def setup(app: Sphinx) -> None:
    """Make the role known."""
    app.add_role("from", From())
