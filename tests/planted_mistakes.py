"""The mistakes that `planted.py` plants: each one that a tired programmer could make.

None is an error that Python itself would report: every one computes, and computes something wrong.
"""

from __future__ import annotations

from typing import NamedTuple


class Mistake(NamedTuple):
    """One mistake: in `file` the text `old`, which occurs there once, becomes `new`.

    The `tests`, files or `file::name`, are those that must notice it; `what` says what it is.
    """

    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    what: str


def _mistake(file: str, old: str, new: str, tests: str, what: str) -> Mistake:
    """A mistake in a file of the package, and the tests below `tests`, with blanks between."""
    return Mistake(
        f"funcnn/{file}", old, new, tuple(f"tests/{test}" for test in tests.split()), what
    )


MISTAKES: tuple[Mistake, ...] = (
    # gradient/program
    _mistake(
        "gradient/program/forward_mode.py",
        "fixed: Sequence[Any] = x[n : n + m]",
        "fixed: Sequence[Any] = x[:m]",
        ("gradient/program/test_forward_mode.py::test_a_loop_runs_on_with_the_numbers_of_its_body"),
        "the further runs of a loop take the constants of its condition",
    ),
    _mistake(
        "gradient/program/loops.py",
        "            clock.begun = None\n",
        "",
        "gradient/program/test_loops.py::test_each_call_has_its_own_time",
        "the clock of a loop goes on from the call before",
    ),
    _mistake(
        "gradient/program/loops.py",
        "                clock.late = False\n",
        "",
        "gradient/program/test_loops.py::test_a_function_that_was_stopped_runs_again",
        "a function that was stopped once is late for ever",
    ),
    _mistake(
        "gradient/program/loops.py",
        "on = self(condition, [*x[:n], *old])[0] if",
        "on = self(condition, [*x[:n], *new])[0] if",
        "gradient/program/test_loops.py::test_under_vmap_each_row_ends_by_itself",
        "under vmap a row of a loop stops one step early",
    ),
    _mistake(
        "gradient/program/loops.py",
        "key = tree, avals, jnp.result_type(float)",
        "key = tree, avals",
        (
            "gradient/program/test_loops.py::test_a_loop_is_traced_again_in_another_default_p"
            "recision"
        ),
        "a loop that was traced in float32 is run in float64",
    ),
    _mistake(
        "gradient/program/operands.py",
        'for name in ("length", "reverse", "unroll")}',
        'for name in ("length", "unroll")}',
        (
            "gradient/program/test_operands.py::test_a_scan_is_looked_at_in_the_step_that_run"
            "s_first[True-row1]"
        ),
        "a reversed scan is looked at as if it ran forwards",
    ),
    _mistake(
        "gradient/program/calls.py",
        "return Calls(jnp.int32(0), jnp.zeros(",
        "return Calls(jnp.int32(1), jnp.zeros(",
        "gradient/program/test_operands.py::test_a_loop_that_never_starts_is_not_reached",
        "the body of a loop that never starts counts as reached",
    ),
    _mistake(
        "gradient/program/operands.py",
        "calls=self.calls * calls,",
        "calls=calls,",
        (
            "gradient/program/test_operands.py::test_a_scan_is_looked_at_in_the_step_that_run"
            "s_first[False-row0]"
        ),
        "a loop in a loop counts the inner steps alone",
    ),
    _mistake(
        "gradient/program/operands.py",
        "here.inside(k, calls=calls).note_all(inner)",
        "here.inside(k).note_all(inner)",
        "gradient/program/test_operands.py::test_loops_inside_loops_multiply_their_calls",
        "a listed scan counts as one call",
    ),
    _mistake(
        "gradient/program/influence.py",
        "if not v.note.endswith(NOT_REACHED)}",
        "if v.note.endswith(NOT_REACHED)}",
        "gradient/program/test_influence.py::test_a_rule_that_runs_anywhere_has_run",
        "the rules that run are called those that do not",
    ),
    _mistake(
        "gradient/program/calls.py",
        "better &= now.number > 0",
        "better &= now.number >= 0",
        "gradient/test_hidden_places.py::test_numbers_that_pass_a_rule_by_are_none_of_its_operands",
        "a step that does not reach a site hands out operands for it",
    ),
    _mistake(
        "gradient/program/calls.py",
        "sizes[2] > before.sizes[2], sizes[3] < before.sizes[3]",
        "sizes[2] > before.sizes[2], sizes[3] > before.sizes[3]",
        "gradient/test_hidden_places.py::test_a_rule_that_is_wrong_in_a_later_step",
        "the call with the smallest numbers is not kept",
    ),
    _mistake(
        "gradient/program/influence.py",
        "if more == carry:\n                return outs",
        "if True:\n                return outs",
        "gradient/program/test_influence.py",
        "a carry that a leaf reaches in the second step does not depend on it",
    ),
    _mistake(
        "gradient/checks/alone.py",
        "return lambda *x: [f(*x)[k]]",
        "return lambda *x: [f(*x)[0]]",
        "gradient/test_hidden_places.py::test_a_rule_that_is_wrong_where_the_other_output_is_not_used",
        "each output alone is the first one",
    ),
    _mistake(
        "gradient/sites/site_calls.py",
        "if only.result in {None, k} else 0 * dy",
        "if only.result in {None, k} else dy",
        "gradient/test_hidden_places.py::test_a_kink_where_one_output_is_used_alone",
        "the appeal of one result alone has the cotangents of all",
    ),
    _mistake(
        "gradient/verdict/judge.py",
        "if np.any(finite & ~np.isfinite(manual)):",
        "if np.any(finite & np.isnan(truth)):",
        "gradient/truth/test_appeal.py",
        "a gradient that is NaN where the truth is not passes",
    ),
    _mistake(
        "gradient/truth/appeal.py",
        "and low - slack <= m <= high + slack",
        "",
        "gradient/truth/test_appeal.py",
        "any number is right where autodiff is NaN",
    ),
    _mistake(
        "gradient/truth/appeal.py",
        "if not known and not in_many_digits(algebra, _ALGEBRA):",
        "if False:",
        "gradient/truth/test_rounded.py",
        "a wrong algebra passes as rounding in the rule's own arithmetic",
    ),
    _mistake(
        "gradient/truth/kinks.py",
        'left_open.append(group[(kinds != "kink") & (kinds != "hidden")])',
        "left_open.append(group[:0])",
        "gradient/truth/test_appeal.py",
        "many elements at kinks are right whatever they are",
    ),
    _mistake(
        "gradient/checks/algebra.py",
        "if left_open:  # a cotangent",
        "if False:  # a cotangent",
        "gradient/truth/test_appeal.py",
        "a cotangent that does not reach an element proves it",
    ),
    _mistake(
        "gradient/program/float64.py",
        "sizes = self.random.uniform(0.5, 1.5, jnp.shape(y))",
        "sizes = 0.0",
        "gradient/truth/test_rounded.py",
        "no rounding errors explain anything",
    ),
    _mistake(
        "gradient/program/influence.py",
        "if any(asked) and eqn.primitive.name not in _FLAT:",
        "if any(asked):",
        "gradient/program/test_influence.py",
        "a gradient goes through what is rounded",
    ),
    _mistake(
        "gradient/sites/site_verdict.py",
        "moved is not None and i not in moved",
        "moved is not None and i in moved",
        "gradient/test_hidden_places.py",
        "the operands that nobody differentiates are judged, and no others",
    ),
    _mistake(
        "gradient/truth/rounded.py",
        "if np.all(self.error <= allowed):",
        "if np.any(self.error <= allowed):",
        "gradient/truth/test_rounded.py",
        "one element that rounding explains excuses all",
    ),
    _mistake(
        "gradient/program/jaxprs.py",
        '("length", "reverse", "unroll")',
        '("length", "unroll")',
        "gradient/program/test_perturbations.py",
        "taps run a reversed scan forwards",
    ),
    _mistake(
        "gradient/program/perturbations.py",
        '(*lengths, eqn.params["length"])',
        '(eqn.params["length"], *lengths)',
        "gradient/sites/test_localize.py::test_the_steps_of_nested_scans_are_stacked",
        "the lengths of nested scans are exchanged",
    ),
    _mistake(
        "gradient/program/remat.py",
        "                names[seen:i] = [name] * (i - seen)",
        "                pass",
        (
            "gradient/comparison/test_arms.py::test_a_rule_that_was_taken_out_inside_a_layer_"
            "stays_in_it"
        ),
        "a rule that lost its scope falls out of its layer",
    ),
    _mistake(
        "gradient/program/without_rules.py",
        "removal.covers(site.name) and not (keep and keep(site))",
        "removal.covers(site.name)",
        (
            "gradient/program/test_without_rules.py::test_a_rule_that_is_to_stay_stays_among_"
            "those_that_are_taken_out"
        ),
        "the rules that are to stay are taken out",
    ),
    _mistake(
        "gradient/program/without_rules.py",
        "        context=functools.partial(removing, removal),\n",
        "",
        ("gradient/program/test_without_rules_foreign.py::test_the_batching_rule_of_a_custom_vmap"),
        "the batching rule of a custom_vmap is traced with its rules",
    ),
    # gradient/cost
    _mistake(
        "gradient/cost/flops.py",
        'n = operand.shape[eqn.params.get("dimension", -1)]',
        "n = operand.shape[-1]",
        "gradient/cost/test_flops.py::test_products_elementwise_and_reductions",
        "a sort counts the length of the last axis, whichever it sorts",
    ),
    _mistake(
        "gradient/cost/flops.py",
        "(at % hole == 0) & ",
        "",
        (
            "gradient/cost/test_flops.py::test_a_convolution_counts_the_pairs_that_meet_as_th"
            "e_compiler_does[options2]"
        ),
        "the holes of a dilated input are counted",
    ),
    _mistake(
        "gradient/cost/residuals.py",
        "needed[v] = needed.get(v, False) or use",
        "needed[v] = use",
        (
            "gradient/cost/test_residuals.py::test_an_array_that_is_kept_twice_counts_once_an"
            "d_is_used_where_either_is"
        ),
        "an array that is kept twice is dead where its last name is",
    ),
    _mistake(
        "gradient/cost/residuals.py",
        "needed[v] = needed.get(v, False) or use",
        "needed[v] = needed.get(v, True) and use",
        (
            "gradient/cost/test_residuals.py::test_an_array_that_is_kept_twice_counts_once_an"
            "d_is_used_where_either_is"
        ),
        "an array that is kept twice is dead where either name is",
    ),
    _mistake(
        "gradient/cost/residuals.py",
        "for v, use in needed.items():",
        "for v, use in ((v, needed[v]) for v in outvars[results:] if _is_var(v) and v in needed):",
        (
            "gradient/cost/test_residuals.py::test_an_array_that_is_kept_twice_counts_once_an"
            "d_is_used_where_either_is"
        ),
        "an array that is kept twice counts twice",
    ),
    # gradient/verdict
    _mistake(
        "gradient/verdict/judge.py",
        "k = max((relative_error",
        "k = min((relative_error",
        "gradient/verdict/test_judge.py::test_rounding_verdicts",
        "the smallest of the noise draws is the floor",
    ),
    _mistake(
        "gradient/verdict/judge.py",
        ("noise = np.where((noise > 1e6 * base) & (np.abs(manual - truth) <= base), 0.0, noise)"),
        "noise = np.where(noise > 1e6 * base, 0.0, noise)",
        "gradient/verdict/test_judge.py::test_algebra_where_the_truth_itself_is_uncertain",
        "noise beside a jump is left out though the gradient stands on the other side",
    ),
    _mistake(
        "gradient/verdict/judge.py",
        "trusted = 2 * min(a, _POOR) if math.isfinite(a) else 0.0",
        "trusted = 2 * a",
        "gradient/verdict/test_judge.py::test_a_poor_autodiff_is_no_excuse",
        "an infinite autodiff excuses any error",
    ),
    _mistake(
        "gradient/verdict/judge.py",
        ('        if m and not a:\n            return "WRONG", ""\n'),
        "",
        ("gradient/verdict/test_judge.py::test_rounding_without_a_truth_that_proves_something"),
        "a gradient where the truth is zero is never wrong",
    ),
    _mistake(
        "gradient/verdict/results.py",
        "if self.rules and not self.run:",
        "if not self.run:",
        "gradient/verdict/test_results.py::test_ok_needs_a_truth_for_every_leaf",
        "a function without rules is told that it runs none",
    ),
    _mistake(
        "gradient/verdict/results.py",
        'r.verdict in {"pass", "fail"} and not (r.zero and self.own)',
        'r.verdict in {"pass", "fail"}',
        "gradient/verdict/test_results.py::test_a_zero_is_right_and_shows_nothing_of_a_rule",
        "a leaf whose truth is zero on every case counts as compared",
    ),
    # gradient/case
    _mistake(
        "gradient/case/arguments.py",
        "return Parts(np.array(leaf.real), np.array(leaf.imag))",
        "return Parts(np.array(leaf.real), np.array(abs(leaf.imag)))",
        "gradient/case/test_arguments.py",
        "the imaginary part loses its sign",
    ),
    _mistake(
        "gradient/case/bound_case.py",
        "(*(case.dtypes if own else ()), *_dtypes",
        "(*case.dtypes, *_dtypes",
        "gradient/case/test_bound_case.py",
        "what nobody has asked for fails and is no note",
    ),
    _mistake(
        "gradient/case/edge_values.py",
        "0 <= np.min(leaf) <= np.max(leaf) < old",
        "0 <= np.min(leaf) <= np.max(leaf) <= old",
        (
            "gradient/checks/test_edge.py::test_axes_of_one_size_shrink_together_and_indices_"
            "stay_inside"
        ),
        "integers that are as large as an axis are taken for its indices",
    ),
    _mistake(
        "gradient/case/edge_values.py",
        "for n in leaf.shape if n > 1)",
        "for n in leaf.shape if n > 2)",
        (
            "gradient/checks/test_edge.py::test_axes_of_one_size_shrink_together_and_indices_"
            "stay_inside"
        ),
        "axes of length 2 are never cut",
    ),
    _mistake(
        "gradient/case/representatives.py",
        "[c for c in cases if not c.kinks and _is_dense(c)] or cases",
        "[c for c in cases if not c.kinks] or cases",
        "gradient/case/test_representatives.py",
        "a costly check is shown on an empty array",
    ),
    # gradient/truth
    _mistake(
        "gradient/truth/kinks.py",
        'return ("pass" if smooth or np.any(others) else "inconclusive"), what',
        'return "pass", what',
        ("gradient/truth/test_appeal.py::test_a_leaf_that_stands_on_kinks_alone_is_not_compared"),
        "a leaf that stands on kinks alone passes",
    ),
    _mistake(
        "gradient/truth/appeal.py",
        "noise[i] = np.maximum(noise[i], by if grows else 0.0)",
        "noise[i] = np.maximum(noise[i], by)",
        "gradient/truth/test_appeal.py::test_a_side_that_rounding_has_chosen_is_no_rounding",
        "a choice that rounding has turned counts as rounding",
    ),
    _mistake(
        "gradient/truth/hull.py",
        "if jump <= _APART_BY * np.max(np.abs(target)):",
        "if False:",
        "gradient/mutation/test_score.py::test_every_mutant_of_a_right_rule_is_killed",
        "a smooth function is right to a millionth",
    ),
    _mistake(
        "gradient/truth/floor.py",
        "truth + (far - near), far)",
        "far, far)",
        "gradient/truth/test_floor.py",
        "a tie that breaks is noise, which hides an error as large",
    ),
    _mistake(
        "gradient/truth/floor.py",
        "perturbed(x, distance, seed)",
        "perturbed(x, distance, 0)",
        "gradient/truth/test_floor.py",
        "all draws of the noise floor are one",
    ),
    _mistake(
        "gradient/truth/floor.py",
        "return near + unit, near",
        "return near + unit / 16, near",
        "gradient/truth/test_floor.py",
        "the noise floor is a sixteenth of a last place",
    ),
    _mistake(
        "gradient/checks/edge.py",
        "no |= ~np.isfinite(np.asarray(t, np.float64))",
        "no |= True",
        "gradient/checks/test_edge.py::test_a_nan_that_spreads_in_float32_by_autodiff_too_is_left_out",
        "where a NaN spreads nothing is asked at all",
    ),
    _mistake(
        "gradient/checks/as_given.py",
        "return bool(np.all(error <= half",
        "return bool(not np.any(error > half",
        "gradient/checks/test_as_given.py",
        "NaN is near any truth",
    ),
    _mistake(
        "gradient/truth/appeal.py",
        "known = fades or",
        "known =",
        "gradient/truth/test_appeal.py::test_what_a_tolerance_leaves_of_the_start_is_no_gradient",
        "what a tolerance leaves of a start is a gradient",
    ),
    _mistake(
        "gradient/truth/kinks.py",
        "missed = misses_a_tie(one) if all(kinds) else True",
        "missed = not all(kinds)",
        "gradient/truth/test_ties.py",
        "elements of a tie are judged one by one",
    ),
    _mistake(
        "gradient/truth/kinks.py",
        'return np.where((kinds != "") & hidden, "hidden", kinds)',
        "return kinds",
        "gradient/truth/test_kinks.py",
        "what is only steep beside a point excuses a gradient",
    ),
    _mistake(
        "gradient/truth/kinks.py",
        "between = (low - allowed <= m) & (m <= high + allowed)",
        "between = m <= high + allowed",
        "gradient/truth/test_appeal.py::test_at_a_kink_any_slope_between_the_sides_is_right",
        "at a kink any slope below the upper one is right",
    ),
    _mistake(
        "gradient/truth/oracle.py",
        "if not abs(d - self.value) <= allowed]",
        "if abs(d - self.value) > allowed]",
        (
            "gradient/checks/test_finite_differences.py::test_a_wrong_rule_fails_and_autodiff"
            "_is_not_blamed[nan]"
        ),
        "a derivative that is NaN is not contradicted",
    ),
    _mistake(
        "gradient/truth/richardson.py",
        "change = np.abs(finer[-1] - column[-1])",
        "change = np.abs(finer[-1] - finer[0])",
        "gradient/truth/test_richardson.py",
        "the error bar is that of the coarsest step",
    ),
    _mistake(
        "gradient/truth/richardson.py",
        "return np.maximum(even, 6 * np.abs(slopes[:-1] - slopes[1:]))",
        "return even",
        (
            "gradient/checks/test_finite_differences.py::test_a_kink_within_the_last_step_doe"
            "s_not_fade[0.6666666666666666]"
        ),
        "a jump that is odd about the point is not seen",
    ),
    # gradient/checks
    _mistake(
        "gradient/checks/contract.py",
        "if (x.shape, x.dtype) != (d.shape, d.dtype):",
        "if x.shape != d.shape:",
        (
            "gradient/test_no_false_pass.py::test_a_cotangent_of_another_dtype_than_its_argum"
            "ent[True-False]"
        ),
        "a cotangent of another dtype keeps the contract",
    ),
    _mistake(
        "gradient/checks/edge.py",
        "if np.any(missing & np.isfinite(a)):",
        "if np.any(missing & ~np.isfinite(a)):",
        "gradient/checks/test_edge.py::test_an_exponential_that_overflows_is_caught",
        "what overflows for autodiff as well is a failure",
    ),
    _mistake(
        "gradient/checks/kink.py",
        "chosen = (places == coordinate) & (leaf == i)",
        "chosen = places == coordinate",
        ("gradient/checks/test_kink.py::test_leaves_that_tie_with_each_other_are_moved_one_by_one"),
        "one coordinate of every leaf is moved at once",
    ),
    _mistake(
        "gradient/checks/kink.py",
        ("for sign in (1.0, -1.0):\n            values"),
        ("for sign in (1.0, 1.0):\n            values"),
        "gradient/checks/test_kink.py::test_right_rules_pass_and_the_kinks_are_counted",
        "both one-sided derivatives are those from the right",
    ),
    _mistake(
        "gradient/checks/laws.py",
        "if error > SOLVED or not has_loop(",
        "if error > SOLVED and not has_loop(",
        "gradient/checks/test_laws.py",
        "a backward pass that is no more than nearly proportional is a note",
    ),
    _mistake(
        "gradient/checks/residuals.py",
        'verdict = "fail" if kept.dead and situation.rule else "pass"',
        'verdict = "pass"',
        "gradient/cost/test_residuals.py::test_a_dead_residual_fails",
        "a dead residual passes",
    ),
    # gradient/mutation
    _mistake(
        "gradient/mutation/check.py",
        "enough = score.score >= _KILLED and score.smallest_scale <= _SCALE",
        "enough = score.score >= _KILLED",
        (
            "gradient/mutation/test_score.py::test_the_check_fails_where_a_small_factor_is_no"
            "t_noticed"
        ),
        "a rule passes whose scale nobody notices",
    ),
    _mistake(
        "gradient/mutation/mutants.py",
        ("out[i], out[j] = (\n                    self._choose(number, b, out[i]),"),
        ("out[i], out[j] = (\n                    self._choose(number, a, out[i]),"),
        ("gradient/mutation/test_mutants.py::test_inputs_and_outputs_of_one_shape_are_swapped"),
        "of two swapped inputs one stays",
    ),
    # gradient/diagnosis
    _mistake(
        "gradient/diagnosis/evidence.py",
        "return all(self._explained(draw, prediction) for draw in self.draws)",
        "return any(self._explained(draw, prediction) for draw in self.draws)",
        "gradient/diagnosis/test_diagnose.py::test_the_mistake_is_named[sign]",
        "a mistake that explains one draw is named",
    ),
    _mistake(
        "gradient/diagnosis/operations.py",
        'constants += [(1 / v, f"not divided',
        'constants += [(v, f"not divided',
        "gradient/diagnosis/test_diagnose.py::test_the_mistake_in_a_rule_is_named",
        "a division that is left out has the factor of a multiplication",
    ),
    # gradient/sites
    _mistake(
        "gradient/sites/census.py",
        "calls=sum(visit.calls for visit in visits)",
        "calls=worst.calls",
        "gradient/sites/test_census.py::test_the_calls_of_all_sites_of_a_rule_are_added_up",
        "the calls of the worst site alone are counted",
    ),
    _mistake(
        "gradient/sites/census.py",
        "worst, error, why = max(judged",
        "worst, error, why = min(judged",
        (
            "gradient/sites/test_census.py::test_a_wrong_site_does_not_hide_behind_a_right_on"
            "e_of_its_rule"
        ),
        "the best site stands for all",
    ),
    _mistake(
        "gradient/sites/census.py",
        "compared=sum(row is not None for _, row, _ in judged)",
        "compared=len(visits)",
        (
            "gradient/sites/test_census.py::test_what_is_not_reached_and_what_has_no_truth_is"
            "_inconclusive"
        ),
        "a site without a truth counts as judged",
    ),
    _mistake(
        "gradient/sites/shaken.py",
        "(by > itself) & (by > 10 * _SHAKE * rms([truth]))",
        "(by > itself) | (by > 10 * _SHAKE * rms([truth]))",
        "gradient/sites/test_shaken.py",
        "what moves a little counts as a kink",
    ),
    # gradient/comparison
    _mistake(
        "gradient/comparison/arms.py",
        "kept = kept_by.total - kept_by.argument",
        "kept = kept_by.total",
        "gradient/comparison/test_arms.py::test_arguments_are_no_residuals_of_an_arm",
        "the arguments count among the residuals of an arm",
    ),
    _mistake(
        "gradient/comparison/arms.py",
        "sorted(tried, key=lambda t: t[:2])",
        "sorted(tried, key=lambda t: t[1])",
        (
            "gradient/comparison/test_arms.py::test_the_policy_of_the_smaller_memory_is_taken"
            "_and_then_that_of_fewer_operations[costs0-dots_saveable]"
        ),
        "the policy of fewer operations is taken before that of less memory",
    ),
    _mistake(
        "gradient/comparison/compare.py",
        ("                index += 1\n    if not chosen"),
        ("                    index += 1\n    if not chosen"),
        "gradient/comparison/test_compare.py::test_argnums_and_paths",
        "leaves that are not chosen are not counted",
    ),
    _mistake(
        "gradient/comparison/training.py",
        "_changed(x, len(self.losses))",
        "_changed(x, 0)",
        (
            "gradient/comparison/test_training.py::test_the_control_is_changed_at_random_in_e"
            "ach_step"
        ),
        "the control is moved by the same coins at each step",
    ),
    _mistake(
        "gradient/comparison/training.py",
        "control = np.maximum.accumulate(_finite(self.arms[-1].distances))",
        "control = _finite(self.arms[-1].distances)",
        (
            "gradient/comparison/test_training.py::test_an_arm_parts_where_it_leaves_ten_time"
            "s_the_largest_distance_of_the_control"
        ),
        "the control of each step alone is the measure",
    ),
    # core
    _mistake(
        "core/contract.py",
        "if cotangent is None or jax.typeof(cotangent).dtype == jax.dtypes.float0:",
        ("if cotangent is None or not jnp.issubdtype(jax.typeof(cotangent).dtype, jnp.inexact):"),
        "core/test_contract.py::test_an_argument_without_cotangent_gets_none",
        "an integer cotangent of an integer argument is let through",
    ),
    _mistake(
        "core/devices.py",
        "cotangent = jax.lax.psum(cotangent, tuple(shared))",
        "cotangent = jax.lax.pmean(cotangent, tuple(shared))",
        "rules/test_in_shard_map.py::test_a_rule_has_the_gradient_of_one_device[linear]",
        "what devices share has the mean of their cotangents",
    ),
    _mistake(
        "core/explicit.py",
        "alike = [a for a in sharded if a.shape[: len(shape)] == shape]",
        "alike = []",
        "rules/test_sharded_arguments.py::test_what_has_the_shape_of_an_argument_lies_as_it_does",
        "residuals lose how the columns of their argument lie",
    ),
    _mistake(
        "train/groups.py",
        "    if frozen and clip_norm is not None:",
        "    if False:",
        "train/test_groups.py::test_what_is_frozen_has_no_part_in_the_norm_that_is_clipped",
        "what is frozen has a part in the norm that is clipped",
    ),
    _mistake(
        "train/groups.py",
        "free = [name for name in own if labels[name] == _REST]",
        "free = list(own)",
        "train/test_groups.py::test_each_group_has_its_own_options_and_the_first_that_matches_decides",
        "the last group that matches decides",
    ),
    _mistake(
        "train/groups.py",
        "kept = [not matches(",
        "kept = [matches(",
        "train/test_groups.py::test_decay_leaves_out_what_is_named",
        "weight decay takes what is named alone",
    ),
    _mistake(
        "gradient/comparison/compare.py",
        "        return judge.rejects(gradient.where_it_stands())",
        "        return False",
        "gradient/comparison/test_compare.py::test_a_rule_that_closes_over_what_its_function_computes",
        "a rule that closes over an array of its function is not named",
    ),
    _mistake(
        "train/loop.py",
        "            if metrics:  # else nothing has been trained that would be lost\n",
        "            if False:\n",
        "train/test_loop.py::test_batches_that_end_cost_no_step",
        "what was trained before a batch that fails is lost",
    ),
    _mistake(
        "core/registry.py",
        "copy._make_cases = self._make_cases",
        "pass",
        "core/test_registry.py::test_replace_gives_a_copy_and_leaves_registry_and_original",
        "a copy with another pass has no cases",
    ),
    _mistake(
        "core/registry.py",
        (
            "            with jax.default_matmul_precision(precision):\n"
            "                backward_pass"
        ),
        ("            if True:\n                backward_pass"),
        "core/test_registry.py::test_matmul_precision_is_in_force_in_both_passes",
        "the backward pass loses the matmul precision",
    ),
    _mistake(
        "core/removal.py",
        "(self.only is None or name in self.only) and name not in self.exclude",
        "self.only is None or name in self.only",
        (
            "gradient/program/test_without_rules.py::test_only_and_exclude_name_own_and_forei"
            "gn_rules"
        ),
        "rules that are excluded are removed all the same",
    ),
    _mistake(
        "core/stack.py",
        "layers = (params, xs, self.keys(key))\n"
        "        dx, taken = jax.lax.scan(one, _as_pair(dy, seen), layers, self.n, reverse=True)",
        "layers = (params, xs, self.keys(key))\n"
        "        dx, taken = jax.lax.scan(one, _as_pair(dy, seen), layers, self.n)",
        (
            "core/test_backprop.py::test_both_agree_with_automatic_differentiation_in_float64"
            "[repeat]"
        ),
        "the backward scan of a repeated layer runs forwards",
    ),
    _mistake(
        "core/usage.py",
        'return MissingStatistics(f"{name}/{self.path}".rstrip("/"), self.frozen)',
        'return MissingStatistics(f"{name}/{self.path}".rstrip("/"))',
        (
            "layers/test_normalization_layers.py::test_frozen_without_statistics_does_not_off"
            "er_the_batchs_own"
        ),
        "the error of a frozen layer forgets on its way that it is frozen",
    ),
    # rules
    _mistake(
        "rules/activation.py",
        "alpha * jnp.exp(jnp.where(x > 0, 0, x)))),)",
        "alpha * jnp.exp(x))),)",
        "rules/test_activation.py::test_the_second_derivative_far_out_is_zero_and_not_nan",
        "the exponential of elu overflows on the branch that is not taken",
    ),
    _mistake(
        "rules/convolution/patches.py",
        "return set(windows.stride) == {1} and 2 * outputs <= inputs",
        "return 2 * outputs <= inputs",
        (
            "rules/convolution/test_conv.py::test_patches_of_the_narrow_side_give_the_same_we"
            "ight_gradient[2-False]"
        ),
        "the patches of a strided convolution are those of dy",
    ),
    _mistake(
        "rules/convolution/patches.py",
        "first = images % chunk or min(images, chunk)",
        "first = min(images, chunk)",
        "rules/convolution/test_conv.py::test_chunks_of_images_add_up",
        "the images left over are summed with some of the others",
    ),
    _mistake(
        "rules/convolution/winograd.py",
        "odd = [(0, n % 2) for n in windows.output]",
        "odd = [(n % 2, 0) for n in windows.output]",
        "rules/convolution/test_winograd.py::test_it_is_the_convolution",
        "an odd image is filled up in front",
    ),
    _mistake(
        "rules/dropout.py",
        "threshold = min(round(rate * 2**32), 2**32 - 1)",
        "threshold = round(rate * 2**32) % 2**32",
        "rules/test_dropout.py::test_a_rate_just_below_one_keeps_its_scale_finite",
        "a rate just below 1 drops nothing",
    ),
    _mistake(
        "rules/embedding.py",
        'mode="fill", fill_value=jnp.nan, wrap_negative_indices=False',
        'mode="fill", fill_value=jnp.nan',
        "rules/test_embedding.py::test_an_index_outside_is_nan_and_moves_no_row[-1]",
        "an index of -1 is the last row",
    ),
    _mistake(
        "rules/embedding.py",
        "pieces = math.gcd(indices.size, device_count(indices, dy))",
        "pieces = 1",
        "rules/test_embedding.py::test_rows_stay_on_the_devices_where_they_lie[other-1]",
        "the rows of all devices are sorted together",
    ),
    _mistake(
        "core/devices.py",
        "            if kind != AxisType.Manual\n",
        "",
        "rules/test_embedding.py::test_each_device_of_a_shard_map_sorts_its_own_rows_at_once",
        "a device of a shard_map counts the others",
    ),
    _mistake(
        "rules/losses/elementwise.py",
        "return dz, (-precise * g).astype(target.dtype), dv",
        "return dz, (-z * dl).astype(target.dtype), dv",
        ("rules/losses/test_elementwise.py::test_weights_and_ignored_labels_equal_those_of_optax"),
        "the gradient of a soft target forgets the weights",
    ),
    _mistake(
        "rules/losses/cut.py",
        "return mask & (start + jnp.arange(self.size, dtype=start.dtype) >= begins)",
        "return mask",
        (
            "rules/losses/test_linear_cross_entropy.py::test_value_and_gradient_equal_those_o"
            "f_optax[weights-4]"
        ),
        "rows over which the last chunk reaches back count twice",
    ),
    _mistake(
        "rules/losses/linear_cross_entropy.py",
        "dz = dz + e * (2 * z_loss * v * s / total)[:, None]",
        "dz = dz + e * (2 * z_loss * s / total)[:, None]",
        (
            "rules/losses/test_linear_cross_entropy.py::test_value_and_gradient_equal_those_o"
            "f_optax[weights-None]"
        ),
        "the z loss forgets the weight of its row",
    ),
    _mistake(
        "rules/losses/linear_cross_entropy.py",
        "mask, jnp.maximum(jnp.sum(mask, dtype=dtype), 1)",
        "mask, jnp.asarray(max(labels.size, 1), dtype)",
        (
            "rules/losses/test_linear_cross_entropy.py::test_value_and_gradient_equal_those_o"
            "f_optax[mean-None]"
        ),
        "the mean counts the ignored rows",
    ),
    _mistake(
        "rules/losses/weighing.py",
        "dv = jnp.where(dl == 0, 0, dl * losses)",
        "dv = dl * losses",
        (
            "rules/losses/test_elementwise.py::test_weights_keep_their_own_dtype_and_a_row_ta"
            "ken_out_moves_none"
        ),
        "a row that was taken out of the loss makes its weight NaN",
    ),
    _mistake(
        "rules/normalization/batch.py",
        "along = (slope * dscale - 2 * dvariance / rstd) / rows",
        "along = (slope * dscale + 2 * dvariance / rstd) / rows",
        "rules/normalization/test_rows.py::test_the_rule_has_the_gradient_of_its_reference",
        "the cotangent of the variance enters with the wrong sign",
    ),
    _mistake(
        "rules/normalization/rows.py",
        "return (x.astype(self.rstd.dtype) - self.centre - self.shift) * self.rstd",
        "return (x.astype(self.rstd.dtype) - self.centre) * self.rstd",
        "rules/normalization/test_rows.py::test_a_large_mean_costs_no_digits",
        "the mean is not corrected by what its sum has lost",
    ),
    _mistake(
        "rules/pooling/windowed.py",
        "later = ~(element <= y) & (y == y)",
        "later = ~(element < y) & (y == y)",
        ("rules/pooling/test_windowed.py::test_the_first_of_several_largest_takes_the_gradient"),
        "of several largest elements the last takes the gradient",
    ),
    _mistake(
        "rules/pooling/windowed.py",
        "jnp.concatenate([first, second[2 * half - images :]])",
        "jnp.concatenate([first, second])[:images]",
        "rules/pooling/test_windowed.py::test_the_places_of_all_images_stand_in_order",
        "with an odd number of images the second half is one too early",
    ),
    # layers
    _mistake(
        "layers/normalization.py",
        "used = names[:2] if constant(params) else names",
        "used = names",
        (
            "layers/test_normalization_layers.py::test_frozen_statistics_are_constants_in_bot"
            "h_backward_passes"
        ),
        "frozen statistics get a gradient in backprop",
    ),
    _mistake(
        "layers/normalization.py",
        ("        if key is None or constant(params):\n            return rules"),
        ("        if key is None:\n            return rules"),
        (
            "layers/test_normalization_layers.py::test_frozen_statistics_are_those_given_besi"
            "de_a_dropout"
        ),
        "a frozen layer takes the batch's own statistics in training",
    ),
    _mistake(
        "layers/normalization.py",
        "count = jnp.full((), math.prod(x.shape[:-1]), mean.dtype)",
        "count = jnp.full((), x.shape[0], mean.dtype)",
        ("layers/test_normalization_layers.py::test_statistics_stand_at_the_paths_of_the_params"),
        "the statistics of images count the images and not the pixels",
    ),
    _mistake(
        "layers/bidirectional.py",
        "carry = None if of_forward[0] is None else (of_forward[0], of_backward[0])",
        "carry = None if of_forward[0] is None else (of_backward[0], of_forward[0])",
        (
            "layers/test_recurrent_layers.py::test_in_both_directions_each_carry_gets_its_own"
            "_cotangent"
        ),
        "the carries of both directions are exchanged in the backward pass",
    ),
    # data
    _mistake(
        "data/batches.py",
        "np.random.default_rng([seed, epoch]).permutation(split.rows)",
        "np.random.default_rng(seed + epoch).permutation(split.rows)",
        "data/test_batches.py::test_a_batch_depends_on_seed_and_step_alone",
        "the second epoch of a seed is the first of the next seed",
    ),
    _mistake(
        "data/dataset.py",
        "test_size=size, stratify=classes, random_state=seed",
        "test_size=size, random_state=seed",
        "data/test_digits.py::test_split_is_stratified",
        "the split is not stratified",
    ),
    _mistake(
        "data/dataset.py",
        "    for split_name, split in dataset.splits().items():",
        '    for split_name, split in {"train": dataset.train}.items():',
        "data/test_load.py::test_check_finite_names_split_and_row[test--inf]",
        "the test rows are not looked at",
    ),
    _mistake(
        "data/sets/idx.py",
        "    if len(x) != len(y):",
        "    if len(x) > len(y):",
        "data/test_idx.py::test_a_bad_file_is_named_with_what_is_wrong",
        "more labels than images are no mistake",
    ),
    _mistake(
        "data/sets/idx.py",
        "outside = (labels < 0) | (labels >= classes)",
        "outside = (labels < 0) | (labels > classes)",
        "data/test_idx.py::test_classes_from_the_training_labels",
        "a label as large as the number of classes is one of them",
    ),
    _mistake(
        "data/sets/idx.py",
        "outside = ~((raw >= 0) & (raw <= most))",
        "outside = (raw < 0) | (raw > most)",
        "data/test_idx.py::test_float_pixels_outside_their_range[nan]",
        "a NaN among the pixels is inside of 0 to 1",
    ),
    # train
    _mistake(
        "train/checkpoint.py",
        "            self._damaged |= set(damaged)\n",
        "",
        (
            "train/test_checkpoint.py::test_a_damaged_checkpoint_is_passed_over_and_set_aside"
            "_by_the_next_save"
        ),
        "a damaged checkpoint is not set aside",
    ),
    _mistake(
        "train/evaluation.py",
        "for output in outputs])[: self._rows]  # (N, ...)",
        "for output in outputs])",
        (
            "train/test_train_evaluation.py::test_means_are_over_the_true_rows_whatever_the_b"
            "atch_size"
        ),
        "the rows that fill the last batch count in the mean",
    ),
    _mistake(
        "train/guard.py",
        "step = position - values.size + 1 + int(wrong[0])",
        "step = position - values.size + int(wrong[0])",
        "train/test_loop.py::test_nan_in_the_data_stops_the_run_before_a_state_is_saved[1]",
        "the step of a NaN is one too early",
    ),
    _mistake(
        "train/saves.py",
        "if self._checkpoints is None or self._saved == position:",
        "if self._checkpoints is None:",
        "train/test_loop.py::test_a_state_that_is_saved_is_not_written_again",
        "a run that is stopped writes again the state that it has just saved",
    ),
    _mistake(
        "train/loop.py",
        "position // every > before // every",
        "position % every == 0",
        (
            "train/test_loop.py::test_with_several_steps_a_call_it_is_the_first_end_of_a_call"
            "_after_a_multiple"
        ),
        "with several steps a call what is due between is left out",
    ),
    _mistake(
        "train/loop.py",
        "np.ravel(metrics[n])[-1].item()",
        "np.ravel(metrics[n])[0].item()",
        ("train/test_loop.py::test_the_record_of_a_step_is_the_same_whatever_the_steps_a_call"),
        "the record of a call is that of its first step",
    ),
    _mistake(
        "train/loop.py",
        "(*self._earlier, *self.history))",
        "(*self._earlier[-1:], *self.history))",
        (
            "train/test_early_stopping.py::test_a_run_that_was_killed_stops_at_the_step_of_th"
            "e_unbroken_one"
        ),
        "early stopping forgets the records of before the run was taken up",
    ),
    _mistake(
        "train/checkpoint.py",
        "            if old != best:",
        "            if old:  # whatever the best",
        "train/test_best.py::test_the_best_is_kept_beside_the_newest",
        "the best checkpoint is removed as an old one",
    ),
    _mistake(
        "train/background.py",
        "    return np.array(leaf)\n",
        "    return np.asarray(leaf)\n",
        "train/test_saves.py::test_the_copy_shares_no_memory_with_a_device",
        "what a thread writes is the memory that the next step is given",
    ),
    _mistake(
        "train/checkpoint.py",
        "        self.wait()\n        return self._steps()\n",
        "        return self._steps()\n",
        "train/test_saves.py::test_what_needs_the_file_waits_for_it",
        "the newest checkpoint is asked for while it is written",
    ),
    _mistake(
        "train/checkpoint.py",
        "        self.wait()\n        state = on_host(state)\n",
        "        state = on_host(state)\n",
        "train/test_saves.py::test_a_second_save_waits_for_the_first_one",
        "two saves are under way at a time",
    ),
    _mistake(
        "train/saves.py",
        "        saving.wait()\n        self._saved = saved\n",
        "        self._saved = saved\n",
        (
            "train/test_saves.py::test_a_failed_save_stops_the_run_before_another_step_and_no"
            "body_is_told"
        ),
        "a save that failed in the background is told as one that is on disk",
    ),
    _mistake(
        "train/saves.py",
        "        if alone and not now and position != self._last:",
        "        if not now and position != self._last:",
        "train/test_saves.py::test_a_state_of_many_processes_is_saved_before_the_run_goes_on",
        "a state of many processes is saved in the background of each",
    ),
    _mistake(
        "train/saves.py",
        "        self._saved, self._since = position, time.monotonic()\n",
        "        self._saved = position\n",
        "train/test_saves.py::test_a_save_is_due_so_many_minutes_after_the_last_one",
        "the minutes between two saves count from the begin of the run",
    ),
    _mistake(
        "train/saves.py",
        "                self._under_way[0].join()\n",
        "                pass\n",
        (
            "train/test_saves.py::test_a_run_that_ends_otherwise_waits_for_the_save_under_way"
            "[KeyboardInterrupt]"
        ),
        "an interrupted run leaves a thread behind that writes",
    ),
    _mistake(
        "train/digests.py",
        """sha256(f"{array.dtype.name}{list(array.shape)}".encode())""",
        """sha256(f"{array.dtype.name}".encode())""",
        "train/test_damage.py::test_a_digest_is_of_dtype_shape_and_bytes",
        "a leaf of another shape has the same digest",
    ),
    _mistake(
        "train/reading.py",
        "    if changed:\n",
        "    if len(changed) > 1:\n",
        "train/test_damage.py::test_a_misread_of_whole_files_is_damage",
        "one leaf that was misread is none",
    ),
    _mistake(
        "train/damage.py",
        "if name in changed or name not in found]",
        "if name in changed]",
        "train/test_damage.py::test_of_many_leaves_the_first_are_named_and_all_are_counted",
        "a leaf that cannot be read is not hit",
    ),
    _mistake(
        "train/checkpoint.py",
        "        if strict:\n",
        "        if strict and len(self.steps()) < 2:\n",
        "train/test_damage.py::test_strict_refuses_a_damaged_newest_and_takes_a_whole_one",
        "a strict restore takes the checkpoint before a damaged one",
    ),
    _mistake(
        "report/files.py",
        "        before.rename(target)\n        raise",
        "        raise",
        "train/test_saves.py::test_a_state_saved_again_whose_name_is_refused_leaves_the_one_before "
        "exchange/test_huggingface_refused.py::test_a_save_that_fails_leaves_all_as_it_was",
        "a state or a folder that cannot be replaced is lost",
    ),
    _mistake(
        "commands/checkpoint.py",
        "    if saved != step:\n",
        "    if saved > step:\n",
        "test_cli_checkpoint.py::test_verify_finds_what_is_no_file_of_an_array",
        "a checkpoint under the name of a later step is whole",
    ),
    _mistake(
        "runs/lock.py",
        "        raise InUse(owner, certain=False)",
        "        raise InUse(owner)",
        "test_runs.py::test_a_lock_file_is_an_obstacle_only_where_its_owner_may_live",
        "whoever meets a lock that may be stale is told to wait for it",
    ),
    _mistake(
        "runs/lock.py",
        "    if owner.host != socket.gethostname() or",
        "    if",
        "test_runs.py::test_a_lock_file_is_an_obstacle_only_where_its_owner_may_live",
        "a process of another host is dead when this one has none of its number",
    ),
    _mistake(
        "train/step.py",
        "new = after_update(params, extra, state.step + 1)",
        "new = after_update(params, extra, state.step)",
        "train/test_extra.py::test_a_target_network_follows_at_its_own_steps",
        "what follows an update is told the number of the one before",
    ),
    _mistake(
        "train/schedules.py",
        "jnp.int32(update - 1)",
        "jnp.int32(update)",
        "train/test_learning_rate.py::test_a_record_has_the_rate_by_which_its_update_was_made",
        "a record has the learning rate of the next update",
    ),
    _mistake(
        "train/schedules.py",
        "left = None if steps is None else steps - warmup",
        "left = steps",
        "train/test_schedules.py::test_warm_up_then_the_schedule_whose_end_is_that_of_the_run",
        "a schedule of the run's length ends after the run by as much as its warm-up",
    ),
    _mistake(
        "train/schedules.py",
        "_rise(first, warmup), schedule], [warmup])",
        "_rise(first, warmup), schedule], [warmup + 1])",
        "train/test_schedules.py::test_it_is_optaxs_own_warm_up_in_equal_bits",
        "a schedule begins one update late after its warm-up",
    ),
    _mistake(
        "train/optimizer.py",
        'own["learning_rate"] = warmed_up(own["learning_rate"], warmup, steps)',
        "pass",
        "train/test_schedules.py::test_a_plain_rate_and_that_of_a_group_warm_up_too",
        "the rate of a group does not warm up",
    ),
    _mistake(
        "train/schedule_free.py",
        "state._replace(z=[z[i] for i in own]),",
        "state._replace(z=[z[i] for i in own], b1=0.9),",
        "train/test_schedule_free.py::test_a_state_tells_by_itself_wherever_it_stands",
        "what is evaluated is that of the usual b1 for every group",
    ),
    _mistake(
        "train/state.py",
        "evaluated(averages_or_params(self.params, self.extra), self.optimizer_state)",
        "averages_or_params(self.params, self.extra)",
        "train/test_schedule_free.py::test_the_evaluated_params_are_the_average_that_the_paper_defines",
        "the params that a schedule-free optimizer trains are evaluated",
    ),
    _mistake(
        "train/reading.py",
        "if like.optimizer_state is None and (states",
        "if like.optimizer_state is not None and (states",
        "train/test_schedule_free.py::test_a_checkpoint_gives_them_back_with_and_without_the_optimizer",
        "a run is loaded with the params that a schedule-free optimizer trains",
    ),
    _mistake(
        "chosen/optimizer.py",
        "or steps == before.train.steps:",
        "or steps != before.train.steps:",
        "test_training_options.py::test_a_config_warms_up_and_says_its_length_once",
        "a run that goes on for longer does not say that its learning rates change",
    ),
    # augment
    _mistake(
        "augment/crop.py",
        "(x.shape[0], 2), 0, 2 * padding + 1)",
        "(x.shape[0], 2), 0, 2 * padding)",
        (
            "augment/test_augment.py::test_every_window_of_a_crop_is_seen_as_often_and_one_of"
            "f_by_one_is_found"
        ),
        "a crop never shows the last row and column of the padded image",
    ),
    _mistake(
        "augment/cutout.py",
        "centres - size // 2",
        "jnp.maximum(centres - size // 2, 0)",
        "augment/test_augment.py::test_each_is_its_reference_with_the_numbers_drawn",
        "a hole is whole at the upper and left border",
    ),
    _mistake(
        "augment/flip.py",
        "bernoulli(key, probability, x.shape[:1])  # (N,)",
        "bernoulli(key, probability, (1,)).repeat(x.shape[0])  # (N,)",
        ("augment/test_augment.py::test_half_of_the_images_are_flipped_and_each_on_its_own"),
        "all images of a batch are flipped, or none",
    ),
    _mistake(
        "train/manifest.py",
        'name {name}" for name in new]',
        'name {name}" for name in new[1:]]',
        "train/test_checkpoint.py::test_a_file_that_the_manifest_does_not_name_is_damage",
        "one file that the manifest does not name is no damage",
    ),
    _mistake(
        "train/metrics_log.py",
        '_parse(self.path, line)["step"] <= step]',
        '_parse(self.path, line)["step"] < step]',
        ("train/test_metrics_log.py::test_rewind_drops_what_is_beyond_the_step_and_a_line_cut_off"),
        "a run that goes on drops the line of its own step",
    ),
    _mistake(
        "train/progress.py",
        " or position >= self._steps:",
        ":",
        "train/test_progress.py",
        "the bar stops short of the end",
    ),
    _mistake(
        "train/signature.py",
        "tuple(Leaf(t.shape, t.dtype, t.weak_type) for t in types)",
        "tuple(Leaf(t.shape, t.dtype) for t in types)",
        "train/test_loop.py::test_a_weak_type_in_the_state_is_named",
        "a weak type is no difference",
    ),
    _mistake(
        "train/statistics.py",
        "return mean, variance + weight * (new_variance - variance), total",
        "return mean, variance + weight * (new_variance - variance), count",
        (
            "train/test_train_statistics.py::test_the_running_mean_is_first_that_of_all_batch"
            "es_and_then_forgets"
        ),
        "the running count is that of the last batch",
    ),
    _mistake(
        "train/state.py",
        "return jax.random.fold_in(jax.random.key(self.seed), self.step)",
        "return jax.random.key(self.seed)",
        "train/test_train_step.py::test_a_step_is_the_update_that_is_written_by_hand",
        "every step draws the same dropout",
    ),
    # config
    _mistake(
        "config/load.py",
        "    sources.pop(keys, None)\n",
        "",
        "test_config.py::test_the_last_override_of_a_key_is_the_one_named",
        "the last override of a key is not the one that is named",
    ),
    _mistake(
        "config/schema.py",
        "validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0",
        "validation_fraction: Annotated[float, Field(ge=0, le=1)] = 0.0",
        "test_config.py::test_one_line_for_each_mistake",
        "a validation split of all rows is let through",
    ),
    _mistake(
        "config/text.py",
        "not -(2**63) <= value < 2**63",
        "not -(2**63) <= value <= 2**63",
        "test_config.py::test_mistakes_of_the_model_and_of_the_file",
        "2**63 fits in 64 bits",
    ),
    # report
    _mistake(
        "report/figures.py",
        "[*points[:-1:stride], points[-1]]",
        "points[::stride]",
        "report/test_figures.py::test_long_curves_are_thinned_and_keep_their_end",
        "a long curve loses its end",
    ),
    _mistake(
        "report/rows.py",
        'return "-" if math.isnan(value) else f"{value:.4g}"',
        'return "-" if not math.isfinite(value) else f"{value:.4g}"',
        "report/test_rows.py::test_every_kind_of_value",
        "infinity is shown as not measured",
    ),
    # runs
    _mistake(
        "runs/loaded.py",
        "np.concatenate(parts)[:count]",
        "np.concatenate(parts)",
        "test_loaded.py::test_the_size_of_what_is_predicted_together_decides_nothing",
        "the filling of the last batch is predicted, too",
    ),
    _mistake(
        "runs/restored.py",
        "checkpoints.restore(like, result_step(config, checkpoints))",
        "checkpoints.restore(like)",
        "test_training_options.py::test_the_best_checkpoint_is_the_result_of_a_run",
        "a run is evaluated at its newest checkpoint, whichever is the best",
    ),
    _mistake(
        "runs/training.py",
        "experiment.dataset.validation is None",
        "experiment.dataset.watched is None",
        "test_training_options.py::test_nothing_is_chosen_by_the_test",
        "the best checkpoint is chosen by the test",
    ),
    _mistake(
        "experiment.py",
        "averaging.update if averaging else None",
        "None",
        "test_training_options.py::test_averages_are_kept_and_evaluated",
        "averages stay where they began",
    ),
    _mistake(
        "task/measured.py",
        "jnp.where(_beside(first, c), 0, c)",
        "c",
        "test_training_options.py::test_a_carry_goes_from_batch_to_batch_and_starts_again",
        "a stream that begins anew goes on from its end",
    ),
    _mistake(
        "task/measured.py",
        "        if self.augmenting is not None:\n            inputs = self.augmenting",
        "        if self.augmenting is None:\n            inputs = self.augmenting",
        "test_loaded.py::test_a_loaded_run_predicts_as_the_evaluation_that_was_reported",
        "what is done to the inputs in evaluation is not done in prediction",
    ),
    _mistake(
        "train/reading.py",
        'prefix = f"{EXTRA}/{AVERAGES}/"',
        'prefix = "params/"',
        "test_loaded.py::test_a_run_starts_from_another_with_a_new_head",
        "a run hands on its last params, and not their averages",
    ),
    _mistake(
        "data/tables.py",
        "x = np.where(np.isnan(x), mean, x)",
        "x = np.where(np.isnan(x), 0.0, x)",
        "test_loaded.py::test_a_table_is_read_as_in_training",
        "a missing value is zero, and not the mean of its column",
    ),
    # commands
    _mistake(
        "commands/predict.py",
        "shares / shares.sum(axis=1, keepdims=True)",
        "shares / shares.sum(axis=0, keepdims=True)",
        "test_loaded.py::test_predictions_of_a_file_are_lines_or_an_array",
        "probabilities are taken over the rows",
    ),
    _mistake(
        "commands/init.py",
        "    if path.exists():\n",
        "    if path.is_dir():\n",
        "test_loaded.py::test_init_lists_the_configs_and_writes_one",
        "a config that is there is written over",
    ),
    _mistake(
        "runs/folder.py",
        "        if old.get(key) != new.get(key)\n",
        "        if key in old and old[key] != new.get(key)\n",
        "test_runs.py::test_an_option_that_the_run_did_not_have_cannot_be_given_on_resume",
        "a key that the run did not have may be set on resume",
    ),
    _mistake(
        "data/contents.py",
        "for start in range(0, len(array), rows):",
        "for start in range(0, rows, rows):",
        "data/test_contents.py::test_many_rows_are_read_piece_by_piece",
        "the digest of a split is that of its first rows",
    ),
    _mistake(
        "commands/train.py",
        "        if begun and is_first():\n            folder.check_data(known)\n",
        "",
        "faults/test_changed_data.py::test_a_run_does_not_go_on_with_other_rows[npz-permuted]",
        "a run goes on with other data",
    ),
    _mistake(
        "commands/stopping.py",
        "raise KeyboardInterrupt(signal.Signals(number).name)",
        "raise KeyboardInterrupt",
        "faults/test_same_run.py::test_a_second_signal_ends_at_once[SIGTERM-143-terminated]",
        "a second SIGTERM ends as an interrupt",
    ),
    _mistake(
        "train/health.py",
        "fine = finite & _finite(statistics)",
        "fine = finite",
        "faults/test_bad_numbers.py::"
        "test_statistics_of_batch_norm_alone_that_are_not_finite_are_skipped",
        "an infinite variance stays in the statistics for ever",
    ),
    _mistake(
        "runs/folder.py",
        "if self.metrics.exists() or any(",
        "if any(",
        "faults/test_wrong_starts.py::test_a_run_that_has_something_is_kept_where_memory_ends",
        "a run with records is removed where memory ends",
    ),
    _mistake(
        "runs/lock.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        "test_runs.py::test_a_second_process_ends_with_one_line_and_writes_nothing[anew]",
        "two processes share a folder",
    ),
    # plan
    _mistake(
        "plan/instructions.py",
        "if found := _TRIPS.search(loop.rest):\n        return int(found[1])",
        "if found := _TRIPS.search(loop.rest):\n        return 1",
        "plan/test_hlo.py::test_branches_and_loops_in_loops",
        "a collective in a loop counts once",
    ),
    _mistake(
        "plan/hlo.py",
        'line.operation.removesuffix("-start")',
        'line.operation.removesuffix("-start").removesuffix("-done")',
        "plan/test_hlo.py::test_asynchronous_pairs_loops_and_wrapped_ones",
        "an asynchronous collective counts twice",
    ),
    _mistake(
        "plan/traffic.py",
        '(group if collective.kind == "all-gather" else 1)',
        "1",
        "plan/test_traffic.py::test_within_a_node",
        "what is gathered is as large as one part of it",
    ),
    _mistake(
        "plan/groups.py",
        "transpose(*others, *chosen)",
        "transpose(*chosen, *others)",
        "plan/test_groups.py::test_axes_of_a_mesh",
        "the devices of other groups talk to each other",
    ),
    _mistake(
        "plan/figures.py",
        "return self.arguments + self.outputs - self.aliased + self.temporary",
        "return self.arguments + self.outputs + self.temporary",
        "plan/test_planning.py::test_arguments_are_the_state_and_a_share_of_the_rows",
        "a state that is donated is there twice",
    ),
    _mistake(
        "plan/compiling.py",
        "donate_argnums=0, out_shardings",
        "out_shardings",
        "plan/test_planning.py::test_arguments_are_the_state_and_a_share_of_the_rows",
        "the state is not donated",
    ),
    _mistake(
        "plan/planning.py",
        "operations.flops / count / steps",
        "operations.flops / count",
        "plan/test_planning.py::test_several_steps_a_call_are_figures_of_one_step",
        "the operations of a call stand for those of a step",
    ),
    _mistake(
        "train/accumulation.py",
        "lambda t, x: t + _weighted(x, outcome.weight, t.dtype), total, found",
        "lambda t, x: t + x.astype(t.dtype), total, found",
        "train/test_accumulation.py::test_a_part_counts_as_much_as_it_has_rows_that_count",
        "each part of a batch counts alike",
    ),
    _mistake(
        "train/accumulation.py",
        "own = jax.random.fold_in(key, i)",
        "own = key",
        "train/test_accumulation.py::test_parts_have_keys_of_their_own_and_hand_on_what_they_carry",
        "the parts of a batch share a key",
    ),
    _mistake(
        "train/statistics.py",
        "within = variances + jnp.square(means - mean[None])",
        "within = variances",
        "train/test_accumulation.py::test_the_mean_of_the_variances_is_not_pooled",
        "the variance between the parts of a batch is lost",
    ),
    _mistake(
        "train/health.py",
        "good = fine & running",
        "good = fine",
        "train/test_health.py::test_halt_keeps_the_state_before_the_bad_step",
        "updates go on after one that halts",
    ),
    _mistake(
        "train/health.py",
        "bad = running & ~fine & ~overflow",
        "bad = running & ~fine",
        "train/test_health.py::test_a_loss_scale_brings_back_what_vanishes_and_halves_at_overflow",
        "an overflow of a scaled loss halts the run",
    ),
    _mistake(
        "train/mesh.py",
        'ROWS = ("fsdp", "data")',
        'ROWS = ("data", "fsdp")',
        "train/test_mesh.py::test_rows_lie_along_fsdp_first",
        "rows lie in the order that XLA divides wrongly",
    ),
    _mistake(
        "train/mesh_check.py",
        "if not worst[0] <= _NEAR:",
        "if worst[0] > 100:",
        "train/test_mesh.py::test_a_gradient_that_the_compiler_divides_wrongly_is_refused",
        "a wrong gradient on a mesh is let through",
    ),
    _mistake(
        "train/mesh_check.py",
        "step.differentiated(params, batch, key, state.extra, None)[2]",
        "jax.grad(lambda p: step.loss(p, batch, key, state.extra)[0])(params)",
        "train/test_mesh.py::test_the_gradient_that_is_checked_is_that_of_the_parts_of_a_batch",
        "another gradient is checked than the step takes",
    ),
    _mistake(
        "train/mesh.py",
        "shape[at] % (parts * accumulate):",
        "shape[at] % parts:",
        "train/test_mesh.py::test_each_part_of_a_batch_is_spread_evenly",
        "parts of a batch are spread unevenly, and nobody is told",
    ),
    _mistake(
        "train/ranges.py",
        "lambda x: 0 <= x < 1)",
        "lambda x: 0 <= x <= 1)",
        "train/test_ranges.py::test_an_optimizer_that_could_not_train_is_one_line",
        "a momentum may be 1, which forgets nothing",
    ),
    _mistake(
        "commands/predict.py",
        "    if same and dataset.fitted:\n",
        "    if same and not dataset.fitted:\n",
        "test_loaded.py::test_a_table_that_has_changed_since_reads_no_further_rows",
        "further rows are scaled by the mean of other rows than those of the training",
    ),
    _mistake(
        "core/remat.py",
        "        x, dy = jax.lax.optimization_barrier((x, dy))\n",
        "",
        "core/test_remat.py::test_the_second_forward_pass_waits_for_the_cotangent",
        "the compiler may share the two forward passes",
    ),
    _mistake(
        "core/around.py",
        "        apply=ways.apply,\n",
        "",
        "core/test_precision.py::test_products_are_of_the_narrow_dtype",
        "a narrow model computes in full width",
    ),
    _mistake(
        "core/precision.py",
        "return _cast_like(dparams, params), ",
        "return dparams, ",
        "core/test_precision.py::test_near_the_same_and_of_the_same_dtypes",
        "gradients by hand have the narrow dtype",
    ),
    _mistake(
        "train/mesh.py",
        "spec = [None] * at + [rows]",
        "spec = [rows]",
        "plan/test_planning.py::test_several_steps_a_call_are_figures_of_one_step",
        "the steps of a call are shared, and not the rows",
    ),
    _mistake(
        "gradient/cost/flops.py",
        "if names is None or tally.platform in names",
        'if names is None or "cpu" in names',
        "plan/test_planning.py::test_the_branch_of_the_platform_that_is_compiled_for_counts",
        "operations of the CPU's branch, in a program for another platform",
    ),
    # pictures
    _mistake(
        "pictures/occlusion.py",
        "jnp.concatenate([rows, jnp.repeat(rows[:1], count * size - len(rows), 0)])",
        "jnp.concatenate([jnp.repeat(rows[:1], count * size - len(rows), 0), rows])",
        "pictures/test_maps.py::test_occlusion",
        "the filling of the last batch stands in front",
    ),
    _mistake(
        "pictures/occlusion.py",
        "abs(jnp.arange(image.shape[1]) - column) <= square // 2",
        "abs(jnp.arange(image.shape[1]) - column) < square // 2",
        "pictures/test_maps.py::test_covering_and_the_background",
        "the square is narrower than high",
    ),
    # what a run tells
    _mistake(
        "train/loop.py",
        (
            "        metrics = jax.device_get(metrics)  # the only wait for the device between two"
            " records\n        self._telling.lap(position)\n"
        ),
        ("        self._telling.lap(position)\n        metrics = jax.device_get(metrics)\n"),
        "train/test_speed.py::test_what_a_step_takes_counts_and_evaluating_saving_and_compiling_do_not",
        "a speed is measured before the device has done the steps",
    ),
    _mistake(
        "train/loop.py",
        "            with self._telling.left_out(metrics), saved:\n                evaluation",
        "            with saved:\n                evaluation",
        "train/test_speed.py::test_what_a_step_takes_counts_and_evaluating_saving_and_compiling_do_not",
        "an evaluation counts as the time of steps",
    ),
    _mistake(
        "train/speed.py",
        "        with self.left_out(pending):\n            state, metrics = jax.block",
        "        with contextlib.nullcontext():\n            state, metrics = jax.block",
        "train/test_speed.py::test_a_last_call_of_fewer_steps_compiles_and_does_not_count",
        "the compilation of a last call of fewer steps counts as the time of steps",
    ),
    _mistake(
        "train/speed.py",
        "            self._steps += count\n            return call()",
        "            self._steps += count\n            return jax.block_until_ready(call())",
        "train/test_speed.py::test_nothing_waits_for_the_device_but_what_must",
        "each step waits for the device",
    ),
    _mistake(
        "train/speed.py",
        "        jax.block_until_ready(pending)\n        start = time",
        "        start = time",
        "train/test_speed.py::test_what_a_step_takes_counts_and_evaluating_saving_and_compiling_do_not",
        "steps that the device has still to do are left out with a save",
    ),
    _mistake(
        "train/telling.py",
        "        self._speed_log.rewind(step)\n",
        "",
        "train/test_speed.py::test_a_run_that_goes_on_has_each_step_once_and_the_metrics_of_an_unbroken_one",
        "the speeds of a run that goes on stand there twice",
    ),
    _mistake(
        "train/telling.py",
        "step - 1 if again else step",
        "step",
        "train/test_writers.py::test_a_record_that_the_log_lacks_is_written_to_all_and_to_none_twice",
        "a record that the log lacks is written twice to the others",
    ),
    _mistake(
        "train/writers.py",
        "key=lambda writer: isinstance(writer, MetricsLog))",
        "key=lambda writer: not isinstance(writer, MetricsLog))",
        "train/test_writers.py::test_a_record_that_the_log_lacks_is_written_to_all_and_to_none_twice",
        "a record that is in the log may not be with the others",
    ),
    _mistake(
        "train/tensorboard.py",
        "_frame(step=self._after + 1, session_log",
        "_frame(step=self._after, session_log",
        "train/test_tensorboard.py::test_a_run_that_goes_on_shows_no_step_twice",
        "TensorBoard loses the last step before a run goes on",
    ),
    _mistake(
        "train/profile.py",
        "return self._made == 1 and not",
        "return self._made == 0 and not",
        "train/test_profile.py::test_calls_after_the_first_are_in_a_file_that_perfetto_opens",
        "the call that compiles is in the trace",
    ),
    _mistake(
        "train/profile.py",
        "        if self._traced is not None:\n            self.end(None)\n        elif",
        "        if",
        "train/test_profile.py::test_a_run_shorter_than_the_window_has_a_trace_of_what_there_is",
        "a run that ends in its window has no trace",
    ),
    _mistake(
        "runs/speed.py",
        "Speed(log, examples, tokens, counted.flops / count, peak)",
        "Speed(log, examples, tokens, counted.flops, peak)",
        "gradient/cost/test_peaks.py::test_a_step_has_its_rows_its_tokens_and_its_operations",
        "the operations of a call of several steps are called those of one",
    ),
    _mistake(
        "gradient/cost/peaks.py",
        "sum(max(p[str(n)] for n in numbers)",
        "sum(min(p[str(n)] for n in numbers)",
        "gradient/cost/test_peaks.py::test_of_several_dtypes_the_fastest_counts_and_of_several_devices_the_sum",
        "the share of the peak flatters where products have several dtypes",
    ),
    # bench
    _mistake(
        "bench/measure.py",
        "            s * arms[0].steps / arm.steps / f for",
        "            s / f for",
        "bench/test_measure.py::test_times_are_of_one_step_and_ratios_of_the_first_arm",
        "a call of several steps is compared with one of one",
    ),
    _mistake(
        "bench/steps.py",
        "self.position += self.steps",
        "self.position += 1",
        "bench/test_steps.py::test_each_number_of_steps_gives_the_same_losses_and_a_time",
        "the batches of one call overlap those of the next",
    ),
    # exchange
    _mistake(
        "exchange/huggingface/gpt2.py",
        'for name in "qkv"',
        'for name in "qvk"',
        "exchange/test_huggingface.py::test_the_logits_are_those_of_the_formulas",
        "the keys of GPT-2 are taken for its values",
    ),
    _mistake(
        "exchange/huggingface/gpt2.py",
        'settings.number("layer_norm_epsilon", 1e-5)',
        "1e-5",
        "exchange/test_huggingface.py::test_the_logits_are_those_of_the_formulas",
        "the epsilon of a config.json is that of everybody",
    ),
    _mistake(
        "exchange/huggingface/llama.py",
        '"mlp.gate_proj": f"{_MLP}/inputs/up/gate",\n    "mlp.up_proj": f"{_MLP}/inputs/up/up"',
        '"mlp.gate_proj": f"{_MLP}/inputs/up/up",\n    "mlp.up_proj": f"{_MLP}/inputs/up/gate"',
        "exchange/test_huggingface.py::test_the_logits_are_those_of_the_formulas",
        "the gate of Llama is taken for what it opens",
    ),
    _mistake(
        "exchange/huggingface/llama.py",
        'base = Settings(inside).number("rope_theta", base)',
        'Settings(inside).number("rope_theta", base)',
        "exchange/test_huggingface.py::test_newer_files_have_the_base_in_a_dict",
        "the base of the positions is not that of newer files",
    ),
    _mistake(
        "exchange/huggingface/load.py",
        "    if surplus:\n",
        "    if surplus and missing:\n",
        "exchange/test_huggingface_refused.py::"
        "test_more_layers_than_the_config_says_are_not_left_out",
        "layers of a file that its config does not count are left out",
    ),
    # layers
    _mistake(
        "layers/attention.py",
        "    if seen is None or seen.dtype != bool:\n        return None, seen\n",
        "    if seen is None or seen.dtype != bool:\n        return None, None\n",
        "layers/test_beside.py::test_a_row_of_length_0_sees_nothing",
        "attention passes lengths on and looks at padding all the same",
    ),
    _mistake(
        "core/stack.py",
        "Sorting.of(res, own, (key, self.apart(x)[1])).kept(res)",
        "Sorting.of(res, own, (key, None)).kept(res)",
        "layers/test_beside.py::test_a_stack_keeps_as_many_numbers_as_without_lengths",
        "a stack keeps the lengths once for each of its layers",
    ),
    _mistake(
        "models/vit.py",
        'run("blocks", x)[:, 0]',
        'run("blocks", x)[:, 1]',
        "models/test_vit.py::test_the_logits_are_the_formula",
        "the head reads the first patch and not the class token",
    ),
    _mistake(
        "layers/transformer.py",
        "in_mlp = bias if mlp_bias is None else mlp_bias",
        "in_mlp = bias or bool(mlp_bias)",
        "models/test_transformer_options.py::test_biases_of_attention_and_of_the_mlp_apart",
        "an mlp without biases has them where attention has",
    ),
    _mistake(
        "models/transformer.py",
        "norm=layers.layer_norm(epsilon),",
        "norm=layers.layer_norm(),",
        "models/test_transformer_options.py::test_epsilon_stands_in_all_norms_of_gpt",
        "the last norm of gpt has an epsilon of its own",
    ),
    # transformers
    _mistake(
        "rules/attention/blocks.py",
        "shrink = jnp.exp(online.maximum - shift)",
        "shrink = jnp.ones_like(shift)",
        "rules/attention/test_attention.py::test_it_is_that_of_jax_nn",
        "what was summed before a larger score came is not scaled down",
    ),
    _mistake(
        "rules/attention/blocks.py",
        "ds = (dz if slope is None else dz * slope)",
        "ds = dz",
        "rules/attention/test_attention.py::test_options_take_part_in_the_gradient_as_in_the_reference",
        "the soft cap has no slope in the backward pass",
    ),
    _mistake(
        "rules/attention/blocks.py",
        "        dp = blocks.dropped(x, dp, i, j)\n",
        "",
        "rules/attention/test_attention.py::test_options_take_part_in_the_gradient_as_in_the_reference",
        "a pair that dropout has left out gives dq and dk",
    ),
    _mistake(
        "rules/attention/blocks.py",
        "total = jnp.where(self.total == 0, 1, self.total)",
        "total = self.total",
        "rules/attention/test_attention.py::test_a_query_that_sees_nothing_is_zero_and_moves_nothing",
        "a query that sees nothing divides by zero",
    ),
    _mistake(
        "rules/attention/blocks.py",
        "narrow = x.q.dtype if jnp.finfo(x.q.dtype).minexp < -100 else precise",
        "narrow = x.q.dtype",
        "rules/attention/test_attention.py::test_small_weights_of_float16_keep_their_digits",
        "dz is below the normal numbers of float16",
    ),
    _mistake(
        "network.py",
        '        raise ConfigError([f"model: {why}"]) from error\n',
        "        return\n",
        "test_bad_inputs.py::test_bad_input_is_one_line_and_leaves_nothing",
        "a model that sees the next tokens learns to copy them",
    ),
    _mistake(
        "rules/attention/blocks.py",
        "return 2.0 ** -max(keys - 1, 0).bit_length()",
        "return 1.0",
        "rules/attention/test_attention.py::test_a_mean_of_the_largest_values_is_finite",
        "the sums of attention overflow where its value does not",
    ),
    _mistake(
        "suite/calls.py",
        "discrete(sample.leaves) != discrete(first.leaves)",
        "False",
        "suite/test_suite.py::test_a_wrong_rule_is_found_that_no_test_differentiates",
        "a suite's rule is checked at the first mask alone",
    ),
    _mistake(
        "suite/wrappers.py",
        "return lambda *args: free(*args)[1]",
        "return free",
        "suite/test_suite.py::test_of_a_module_of_nnx_the_parameter_is_named_whose_derivative_is_wrong",
        "the state that a rule of Flax NNX hands through has to have a derivative",
    ),
    _mistake(
        "suite/wrappers.py",
        'made_by == "filter_custom_jvp"',
        'made_by == "filter_jvp"',
        "suite/test_suite.py::test_what_equinox_holds_fixed_keeps_its_numbers",
        "a rule of Equinox is differentiated by what was given by keyword",
    ),
    _mistake(
        "suite/identity.py",
        "return whole if whole.rpartition",
        "return name if whole.rpartition",
        "suite/test_suite.py::test_a_rule_inside_a_function_is_named_with_it",
        "each rule inside a function is called f",
    ),
    _mistake(
        "suite/session.py",
        "            reporter.write_line(self._failed, red=True)\n",
        "            pass\n",
        "suite/test_suite.py::test_a_suite_that_fails_by_itself_says_so_too",
        "a suite fails, and its last line says that all has passed",
    ),
    _mistake(
        "suite/running.py",
        "            return original(*args, **keywords)\n",
        "            return None\n",
        "suite/test_running.py::test_where_it_has_other_arguments_the_program_runs_all_the_same",
        "a program of which nothing is seen does not run",
    ),
    _mistake(
        "gradient/program/answering.py",
        "_SHARED = 3.0",
        "_SHARED = 1.0",
        "gradient/program/test_answering.py",
        "what is slow because others have the processors is without an answer",
    ),
    _mistake(
        "rules/attention/sight.py",
        "conditions.append(s >= t - sight.before)",
        "conditions.append(s > t - sight.before)",
        "rules/attention/test_attention.py::test_it_is_that_of_jax_nn",
        "a window is one key too short",
    ),
    _mistake(
        "rules/attention/sight.py",
        "if grid.columns * grid.column_blocks > grid.keys:",
        "if grid.columns > grid.keys:",
        "rules/attention/test_attention.py::test_it_is_that_of_jax_nn",
        "keys that fill up the last block are seen",
    ),
    _mistake(
        "rules/attention/sight.py",
        "first, last = i * self.rows, min((i + 1) * self.rows, self.queries) - 1",
        "first, last = 0, self.queries - 1",
        "rules/attention/test_attention.py::test_pairs_that_see_nothing_are_left_out",
        "pairs of blocks that see nothing are computed all the same",
    ),
    _mistake(
        "core/sorting.py",
        'places |= {id(leaf): ("params", n) for',
        'places |= {id(n): ("params", n) for',
        "layers/test_transformer_layers.py::test_ten_numbers_are_kept_for_each_of_x",
        "a loop stacks params beside its residuals",
    ),
    _mistake(
        "generation/sampling.py",
        "before = jnp.cumsum(p, -1) - p",
        "before = jnp.cumsum(p, -1)",
        "generation/test_sampling.py::test_the_shares_of_what_is_drawn",
        "top_p leaves out the token that reaches the share",
    ),
    _mistake(
        "generation/writing.py",
        "keys = jax.vmap(jax.random.fold_in, (0, None))(drawing.keys, written.step)",
        "keys = drawing.keys",
        "generation/test_writing.py::test_each_step_draws_anew",
        "every token is drawn with the same noise",
    ),
    _mistake(
        "generation/writing.py",
        "jnp.take_along_axis(y, (lengths - 1)[:, None, None], 1)[:, 0]",
        "y[:, -1]",
        "generation/test_writing.py::test_it_writes_what_the_loop_without_a_cache_writes",
        "a short prompt goes on from its padding",
    ),
    _mistake(
        "gradient/truth/appeal.py",
        '<= MET * min(off["automatic"], abs(slope.value)):',
        '<= 10 * off["automatic"]:',
        "gradient/truth/test_branch_for_one_value.py::test_what_they_do_not_meet_is_wrong",
        "whatever differences say, a truth that they contradict excuses a gradient",
    ),
    _mistake(
        "gradient/truth/many_digits.py",
        "if np.all(error <= allowed + MET * np.minimum(misses, np.abs(known))):",
        "if np.all(error <= allowed + 10 * misses):",
        "gradient/truth/test_branch_for_one_value.py::test_what_they_do_not_meet_is_wrong",
        "whatever many digits say, a truth that they contradict excuses a gradient",
    ),
    _mistake(
        "gradient/truth/many_digits.py",
        "if not apart <= _STEADY * size or",
        "if",
        "gradient/truth/test_many_digits.py::test_what_has_none",
        "many digits give a kink the mean of its slopes",
    ),
    _mistake(
        "gradient/verdict/judge.py",
        "np.where(np.isnan(c), 0.0, c)",
        "c",
        (
            "gradient/truth/test_branch_for_one_value.py"
            "::test_a_moved_argument_that_leaves_the_domain_is_no_noise"
        ),
        "an argument that leaves the domain when it is moved makes a right rule wrong",
    ),
    _mistake(
        "gradient/truth/branch.py",
        "if subject.kinks or not _may_be_equal(program):",
        "if True:",
        (
            "gradient/truth/test_branch_for_one_value.py"
            "::test_a_copy_of_autodiff_is_wrong_where_autodiff_is"
        ),
        "a rule that autodiff was copied into is right where both take a branch for the function",
    ),
    # What float64 cannot reach, and the options of the compiler
    _mistake(
        "gradient/truth/coarse.py",
        " and bent[k] <= _BENT * size + noise[k]",
        "",
        "gradient/truth/test_coarse.py::test_where_differences_are_unsure_there_is_no_slope",
        "coarse differences are sure of themselves at a kink",
    ),
    _mistake(
        "gradient/truth/coarse.py",
        "if 0 < size >= bar / _KNOWN and",
        "if size >= bar / _KNOWN and",
        "gradient/truth/test_coarse.py::test_where_differences_are_unsure_there_is_no_slope",
        "coarse differences are sure of a slope of zero",
    ),
    _mistake(
        "gradient/comparison/as_it_is.py",
        'options["reference"] = followed',
        "del followed",
        "gradient/test_places.py::"
        "test_a_function_that_computes_in_float32_is_held_against_what_it_follows",
        "a function that computes in float32 is held against itself, whatever it follows",
    ),
    _mistake(
        "gradient/check.py",
        'return [situation.result("truth", "", "skip", why)]\n    return judged_as_it_is',
        "pass\n    return judged_as_it_is",
        "gradient/test_places.py::"
        "test_a_surrogate_that_computes_in_float32_is_not_held_against_a_derivative",
        "a declared surrogate that computes in float32 is held against the derivative",
    ),
    _mistake(
        "gradient/program/compiling.py",
        "return {name: value for name, value in _QUICKLY.items() if _compiles({name: value})}",
        "return _QUICKLY",
        "gradient/program/test_compiling.py",
        "the compiler is given options that it does not know",
    ),
    # gradient/hunt, and what does not return
    _mistake(
        "gradient/program/answering.py",
        "    watched = patient and _SIGNS.of_jax\n",
        "    watched = _SIGNS.of_jax\n",
        "gradient/program/test_answering.py::test_steps_are_signs_that_it_goes_on_and_only_for_the_patient",
        "signs that it goes on put off the end of a check in a suite",
    ),
    _mistake(
        "gradient/program/answering.py",
        "    step(str)\n",
        "    _SIGNS()\n",
        "gradient/program/test_answering.py::test_the_step_of_an_earlier_answer_is_not_named",
        "what does not return is said to be in the check of another rule",
    ),
    _mistake(
        "gradient/case/memory.py",
        "    if needed <= megabytes:\n",
        "    if needed <= 2048.0 * 2**20:\n",
        "test_cli_hunt.py::test_the_memory_of_a_check_is_bounded_and_said",
        "a check is begun whatever it takes",
    ),
    _mistake(
        "gradient/hunt/judging.py",
        "        if any(np.any(np.isnan(v)) for v in y):\n",
        "        if not y:\n",
        "gradient/hunt/test_hunt.py::test_nothing_compared_is_not_ok",
        "a value that is not defined is not told from a derivative that is none",
    ),
    _mistake(
        "gradient/hunt/judging.py",
        '        raise Endless(f"{error} on the way back; without the rule it ends") from error\n',
        "        raise\n",
        "gradient/hunt/test_hunt.py::test_a_loop_on_the_way_back_that_does_not_end_is_found",
        "a rule that does not end is passed over",
    ),
    _mistake(
        "gradient/hunt/judging.py",
        "    if any(np.any(np.isnan(v)) for v in value) and not _all_finite(trial.x):\n",
        "    if not value:\n",
        "gradient/hunt/test_hunt.py::test_a_value_by_hand_that_is_nan_at_infinity_is_no_matter_of_the_gradient",
        "zeros of padding times infinity are a wrong gradient",
    ),
    _mistake(
        "gradient/hunt/search.py",
        "        random = np.random.default_rng(self.seed)\n",
        "        random = np.random.default_rng()\n",
        "gradient/hunt/test_hunt.py::test_the_same_seed_repeats_it",
        "the same seed draws other trials",
    ),
    _mistake(
        "gradient/hunt/search.py",
        "megabytes_of_check(place.situation.args) > self.megabytes",
        "megabytes_of_check(()) > self.megabytes",
        "gradient/hunt/test_hunt.py::test_sizes_that_take_too_much_memory_are_left_out",
        "sizes are tried whatever they take",
    ),
    _mistake(
        "gradient/hunt/shrinking.py",
        "            self._sizes_that_raise()\n",
        "",
        "gradient/hunt/test_hunt.py::test_a_rule_that_raises_wherever_it_is_called_is_found_and_small",
        "an example that raises stays as large as it was",
    ),
    _mistake(
        "gradient/hunt/shrinking.py",
        "        self._sizes()\n",
        "",
        "gradient/hunt/test_shrinking.py::test_one_element_and_one_digit_are_left",
        "an example keeps all its elements",
    ),
    _mistake(
        "gradient/hunt/shrinking.py",
        "            self._numbers()\n",
        "            pass\n",
        "gradient/hunt/test_shrinking.py::test_what_must_be_large_stays_so",
        "an example keeps its long numbers",
    ),
    _mistake(
        "gradient/hunt/hunt.py",
        '    if not any("float" in one.kinds for one, _ in hunted):\n',
        "    if rules > 1 and not any(one.kinds for one, _ in hunted):\n",
        "gradient/hunt/test_hunt.py::test_integers_alone_are_no_arguments_of_a_gradient",
        "of integers alone it is the derivative that is not finite",
    ),
    _mistake(
        "gradient/hunt/report.py",
        "        return self.found is None and self.compared > 0\n",
        "        return self.found is None\n",
        "gradient/hunt/test_hunt.py::test_nothing_compared_is_not_ok",
        "a hunt that compared nothing is right",
    ),
    _mistake(
        "gradient/hunt/check.py",
        '@registered("release", order=3, needs_truth=True)',
        '@registered("full", order=3, needs_truth=True)',
        "gradient/hunt/test_check.py::test_it_runs_at_level_release_alone",
        "the short hunt runs at the level full",
    ),
    _mistake(
        "gradient/hunt/check.py",
        "        yield _result(situation, _report(situation))\n",
        '        yield situation.result("hunt", "", "pass", _report(situation).conclusion())\n',
        "gradient/hunt/test_check.py::test_a_rule_that_is_wrong_elsewhere_fails_with_the_place",
        "the level release passes what its hunt has found",
    ),
)
