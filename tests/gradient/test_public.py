"""Public functions of JAX and Optax through `check` and `census`: no false alarm, true findings."""

import re

import jax
import pytest
from catalogue_public import PUBLIC

from funcnn.gradient.check import check
from funcnn.gradient.sites.census import census

SAMPLE = ("nn.softplus", "linalg.solve", "fft", "scipy.special.betainc", "custom_root")


def judge(public):
    # Many of them promote dtypes or ranks by themselves.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        report = check(public.f, *public.args)
        rows = census(public.f, *public.args).rules
    if public.says:
        assert not report.ok
        assert re.search(public.says, str(report)), str(report)
    else:
        assert report.ok, str(report)
    assert all(row.verdict != "WRONG" for row in rows), rows


@pytest.mark.parametrize("name", SAMPLE)
def test_some_of_them(name):
    judge(PUBLIC[name])


@pytest.mark.battery
@pytest.mark.parametrize("name", [name for name in PUBLIC if name not in SAMPLE])
def test_the_rest_of_them(name):
    judge(PUBLIC[name])


def test_they_are_many_and_each_finding_has_its_reason():
    assert len(PUBLIC) >= 140
    assert all(bool(p.says) == bool(p.why) for p in PUBLIC.values())
