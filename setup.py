"""What pyproject.toml cannot say: files of the repository that a wheel holds under another name,
and those of the package that are no code. All else is in pyproject.toml.
"""

from setuptools import find_packages, setup

# Where they lie in the package, and where in the repository; vididi/shipped.py finds them in both.
SHIPPED = {
    "vididi.share.sweeps": "sweeps",
    "vididi.share.sweeps.paper": "sweeps/paper",
    "vididi.share.papers": "analysis/papers",
}

setup(
    packages=[*find_packages(include=["vididi", "vididi.*"]), *SHIPPED],
    package_dir=SHIPPED,
    package_data={
        **{package: ["*.yaml"] for package in SHIPPED},
        "vididi.analysis": ["report_page/*"],  # the page of `vididi report`
    },
)
