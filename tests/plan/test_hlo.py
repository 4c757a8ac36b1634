"""Collectives in recorded texts of XLA: each once, with its bytes, as often as it runs."""

import pytest

from funcnn.plan.hlo import Collective, bytes_of, collectives_of

ALL = "replica_groups=mesh['axis_0'=16,'axis_1'=1] {'axis_0'}, use_global_device_ids=true"

# Of a step on 16 described H200, two in a call, its state cut; shortened.
GPU = f"""HloModule jit_step, is_scheduled=true
%add (a: f32[], b: f32[]) -> f32[] {{
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}}

%body (p: (s32[], f32[4,64])) -> (s32[], f32[4,64]) {{
  %p = (s32[], f32[4,64]{{1,0}}) parameter(0)
  %w = f32[4,64]{{1,0}} get-tuple-element(%p), index=1
  %b.1 = f32[4]{{0}} fusion(%w), kind=kLoop, calls=%add
  %all-gather-start = ((f32[4,64]{{1,0}}, f32[4]{{0}}), (f32[64,64]{{1,0}}, f32[64]{{0}})) \
all-gather-start(%w, %b.1), channel_id=1, {ALL}
  %all-gather-done = (f32[64,64]{{1,0}}, f32[64]{{0}}) all-gather-done(%all-gather-start)
  %g = f32[64,64]{{1,0}} get-tuple-element(%all-gather-done), index=0
  %reduce-scatter-start = (f32[64,64]{{1,0}}, f32[4,64]{{1,0}}) reduce-scatter-start(%g), \
dimensions={{0}}, {ALL}, to_apply=%add
  %reduce-scatter-done = f32[4,64]{{1,0}} reduce-scatter-done(%reduce-scatter-start)
  ROOT %t = (s32[], f32[4,64]{{1,0}}) tuple(%i, %reduce-scatter-done)
}}

%wrapped (q: bf16[8]) -> bf16[8] {{
  %q = bf16[8]{{0}} parameter(0)
  ROOT %moved = bf16[8]{{0}} collective-permute(%q), source_target_pairs={{{{0,1}},{{1,0}}}}
}}

ENTRY %main (x: f32[4,64]) -> f32[4,64] {{
  %x = f32[4,64]{{1,0}} parameter(0)
  %q.1 = bf16[8]{{0}} constant({{...}})
  %async = ((bf16[8]{{0}}), bf16[8]{{0}}, u32[]) async-start(%q.1), calls=%wrapped
  %done = bf16[8]{{0}} async-done(%async)
  %loss = f32[] constant(1)
  %total = f32[] all-reduce(f32[] %loss), replica_groups={{}}, to_apply=%add
  %start = (s32[], f32[4,64]{{1,0}}) tuple(%zero, %x)
  ROOT %while.1 = (s32[], f32[4,64]{{1,0}}) while(%start), condition=%cond, body=%body, \
backend_config={{"known_trip_count":{{"n":"2"}},"known_init_step":{{"init":"0","step":"1"}}}}
}}
"""


def test_asynchronous_pairs_loops_and_wrapped_ones():
    groups = "mesh['axis_0'=16,'axis_1'=1] {'axis_0'}"
    assert collectives_of(GPU) == [
        Collective("collective-permute", 16, 1, "{{0,1},{1,0}}"),
        Collective("all-reduce", 4, 1, "{}"),
        Collective("all-gather", 4 * (4 * 64 + 4), 2, groups),
        Collective("reduce-scatter", 4 * 64 * 64, 2, groups),
    ]


# Of a described TPU, which says no trip count; shortened.
TPU = """HloModule jit_step
%cond (p: (s32[], f32[8])) -> pred[] {
  %limit = s32[]{:T(128)} constant(5)
  %p = (s32[]{:T(128)}, f32[8]{0:T(128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %limit), direction=LT
}
%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p = (s32[]{:T(128)}, f32[8]{0:T(128)}) parameter(0)
  %x = f32[8]{0:T(128)S(1)} get-tuple-element(%p), index=1
  %y = f32[8]{0:T(128)S(1)} all-reduce(%x), replica_groups=[2,4]<=[8], to_apply=%add
  ROOT %t = (s32[]{:T(128)}, f32[8]{0:T(128)}) tuple(%next, %y)
}
ENTRY %main (x: f32[8]) -> f32[8] {
  %x = f32[8]{0:T(128)} parameter(0)
  %zero = s32[]{:T(128)} constant(0)
  %copy.1 = s32[]{:T(128)} copy(%zero)
  %start = (s32[]{:T(128)}, f32[8]{0:T(128)}) tuple(%copy.1, /*index=1*/%x)
  ROOT %loop = (s32[]{:T(128)}, f32[8]{0:T(128)}) while(%start), condition=%cond, body=%body
}
"""


def test_a_loop_that_counts_from_zero():
    assert collectives_of(TPU) == [Collective("all-reduce", 32, 5, "[2,4]<=[8]")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("constant(0)", "constant(3)"),
        ("direction=LT", "direction=NE"),
        ("compare(%i, %limit)", "compare(%i, %x)"),
        ("%limit = s32[]{:T(128)} constant(5)", "%limit = s32[] parameter(1)"),
        ("while(%start)", "while(%elsewhere)"),
    ],
)
def test_a_loop_that_does_not_say_how_often_counts_once(old, new):
    (found,) = collectives_of(TPU.replace(old, new))
    assert (found.times, found.known) == (1, False)


def test_branches_and_loops_in_loops():
    text = """
%inner (x: f32[2]) -> f32[2] {
  %x = f32[2]{0} parameter(0)
  ROOT %y = f32[2]{0} all-reduce(%x), replica_groups={{0,1}}, to_apply=%add
}
%outer (x: f32[2]) -> f32[2] {
  %x = f32[2]{0} parameter(0)
  ROOT %y = f32[2]{0} while(%x), body=%inner, "known_trip_count":{"n":"3"}
}
ENTRY %main (x: f32[2]) -> f32[2] {
  %x = f32[2]{0} parameter(0)
  %i = s32[] constant(0)
  %z = f32[2]{0} conditional(%i, %x, %x), branch_computations={%inner, %other}
  ROOT %y = f32[2]{0} while(%x), body=%outer, "known_trip_count":{"n":"4"}
}
"""
    assert [c.times for c in collectives_of(text)] == [1, 12]


def test_bytes_of_types():
    assert bytes_of("f32[2,3]{1,0:T(8,128)(2,1)S(1)}") == 24
    assert bytes_of("(bf16[4], f8e4m3fn[4], pred[4], c64[1], s4[3], u32[])") == 30
    assert bytes_of("token[]") == 0
    assert bytes_of("f32[<=4]") == 16


def test_an_operand_that_stands_nowhere_is_not_counted_as_nothing():
    with pytest.raises(ValueError, match="does not say what %gone is"):
        collectives_of(TPU.replace("all-reduce(%x)", "all-reduce(%gone)"))


def test_a_text_without_an_entry():
    with pytest.raises(ValueError, match="has no ENTRY"):
        collectives_of("HloModule x")
