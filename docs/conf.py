"""The documentation: the lecture, the rules, the API. `python docs/serve.py` builds it."""

import logging
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")

import funcnn  # noqa: E402

logging.getLogger("absl").setLevel(logging.WARNING)  # orbax says much while an example runs

project, author, release = "funcnn", "the authors of funcnn", funcnn.__version__
project_copyright = "the authors of funcnn"
extensions = [
    *("myst_parser", "sphinx_gallery.gen_gallery"),
    *("mathml", "executed", "reference", "lecture_pages"),
]
html_math_renderer = "mathml"
myst_enable_extensions = ["dollarmath", "deflist"]
# sphinx-gallery's own pages of thumbnails: the index beside each is the table of contents here.
exclude_patterns = ["_extensions", "*/steps/index.rst", "**/sg_execution_times.rst"]

html_theme = "furo"
html_title = "funcnn"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b5c8a", "color-brand-content": "#0b5c8a"},
    "dark_css_variables": {"color-brand-primary": "#7cc4f0", "color-brand-content": "#7cc4f0"},
}
pygments_style = "a11y-light"

sphinx_gallery_conf = {
    "examples_dirs": ["../examples/lecture", "../examples/attention"],
    "gallery_dirs": ["lecture/steps", "attention/steps"],
    "filename_pattern": r"(step_\d+_\w+|errata)\.py$",
    "ignore_pattern": r"(verified|drawing|formulas|the_lecture)\.py$",
    "within_subsection_order": "FileNameSortKey",
    "reset_argv": "lecture_pages.arguments",
    "reset_modules": ("matplotlib", "lecture_pages.fresh"),
    "reset_modules_order": "both",
    # A script that has not changed may compute something else when funcnn has.
    "run_stale_examples": True,
    "capture_repr": (),
    "download_all_examples": False,
    "show_signature": False,
    "show_memory": False,
    "min_reported_time": 1e9,
    "write_computation_times": False,
    "remove_config_comments": True,
    "image_srcset": ["2x"],
}
