"""A timeline as one HTML file that needs nothing else: the page's own strip, with the record in it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gateway

PAGE = Path(gateway.__file__).parent / "page"
MODULES = ("record", "words", "pen", "picture", "strip", "timeline")
"""Each after those that it imports."""
STYLES = ("page", "timeline")
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./[a-z]+\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=class |const |function )", re.MULTILINE)
_UNSAFE = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
_TEMPLATE = """<!doctype html>
<html lang="en" class="timeline">
<head>
  <meta charset="utf-8">
  <meta http-equiv="Content-Security-Policy" content="{policy}">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <meta name="referrer" content="no-referrer">
  <title>Paceline timeline</title>
  <style>{style}</style>
</head>
<body>
  <header>
    <h1>Paceline</h1>
    <p>Drafters guess, one verifier checks, the text stays the target&rsquo;s own.</p>
    <p id="model" class="model"></p>
  </header>
  <main>
    <section class="panel overlap" aria-labelledby="strip-title">
      <div class="title"><h2 id="strip-title">Drafting above, verification below</h2></div>
      <div id="strip"></div>
    </section>
    <section class="panel" aria-labelledby="numbers-title">
      <h2 id="numbers-title">In numbers</h2>
      <div class="scroll" role="region" aria-labelledby="numbers-title" tabindex="0"><table id="numbers"></table></div>
    </section>
  </main>
  <noscript><p class="problem">The timeline is drawn by the script in this file.</p></noscript>
  <script type="application/json" id="timeline">{data}</script>
  <script type="module">{script}</script>
</body>
</html>
"""


def timeline_page(timeline: Mapping[str, Any]) -> str:
    """Whatever tokens read, it is data in there: nothing of it is markup or script, and nothing else may run."""
    style, script = _style(), _script()
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; base-uri 'none'; "
        "form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    data = json.dumps(timeline, separators=(",", ":")).translate(_UNSAFE)
    return _TEMPLATE.format(policy=policy, style=style, script=script, data=data)


def _style() -> str:
    return "\n".join((PAGE / f"{name}.css").read_text(encoding="utf-8") for name in STYLES)


def _script() -> str:
    """The page's modules as one: what they import from each other stands before it."""
    texts = [(PAGE / f"{name}.js").read_text(encoding="utf-8") for name in MODULES]
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", text)) for text in texts)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
