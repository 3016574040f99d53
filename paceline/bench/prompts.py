"""Ten code prompts of the kind the embedded target was trained for; none is text of the standard library."""

_EDIT = """\
def add_pair(first, second):
    total = first + second
    return total


# The same function, with `total` renamed to `result`:

def add_pair(first, second):
"""

CODE_PROMPTS = (
    'def read_lines(path, encoding="utf-8"):\n    """Return the lines of a file."""\n',
    "class Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self, item):\n",
    "def parse_arguments(argv=None):\n    parser = argparse.ArgumentParser(",
    "import os\nimport sys\n\ndef find_files(root, suffix):\n    for ",
    "class TestParser(unittest.TestCase):\n    def setUp(self):\n        self.parser = Parser()\n\n    def test_empty",
    'def merge_sorted(left, right):\n    """Merge two sorted lists."""\n    result = []\n',
    "async def fetch_all(urls, timeout=None):\n    loop = asyncio.get_running_loop()\n",
    "    def __repr__(self):\n        return ",
    "def check_type(value, expected):\n    if not isinstance(value, expected):\n        raise TypeError(",
    _EDIT,
)
