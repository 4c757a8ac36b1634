"""Why a site is not audited: the first pattern that its package, file and name hold."""

from __future__ import annotations

import re

from sites import Site

_PALLAS = "a kernel that runs on a TPU or GPU only"
_USERS = "generic: makes rules of functions that its user gives; their rules are to be checked"
_MACHINE = "generic: the machinery of rules itself, no function of its own"
_LINEAR = "structural: moves, copies, casts or marks data; its derivative is itself"
_EFFECT = "no derivative: refuses, or an effect such as printing or a callback"
_REFS = "mutable references and discharge: a program's state, no function of arrays"
_OTHER = "calls a program of another system (TensorFlow, an exported module, a foreign function)"
_QUANTIZED = "quantization with straight-through gradients by design; scales have no true gradient"
_FORWARD = "forward mode alone: what is compared here is what a derivative pulls back"
_STOCHASTIC = "a random estimator on purpose: right only in expectation"
_ELSE = "needs several devices, or an approximate search"
_ELSEWHERE = "not defined on JAX: jax.nn.softplus stands in its place"

REASONS: tuple[tuple[str, str], ...] = (
    (r"pallas/|cudnn|_mgpu|experimental/rnn|tokamax.*tpu|megablox|scaled_dot_general", _PALLAS),
    (r"tokamax/_src/ops/op.py", _USERS),
    (r"loops.py:while_p|bcoo_spdot_general_p|reductions.py:reduce_window_p", _FORWARD),
    (r"_stable_grad_softplus", _ELSEWHERE),
    (r"call_tf|jax2tf|_export.py|ffi.py|buffer_callback", _OTHER),
    (r"fp8_ops.py:(in_qdq|out_qdq|in_q|out_dq|quantized_dot)|ragged_dot_qt", _QUANTIZED),
    (r"flax/(core|linen/transforms|nnx)|custom_derivatives.py|hijax|ad_checkpoint", _USERS),
    (r"interpreters/ad.py|create_vprim|custom_batching", _MACHINE),
    (r"custom_gradient.py|substrates/jax/internal/backend", _MACHINE),
    (r"pure_callback|io_callback|debug|checkify|inspect_sharding|announce|_error$", _EFFECT),
    (r"nondifferentiable|nontraceable|_eval_jaxpr_ad_error|_backward_nan", _EFFECT),
    (r"prevent_gradient|_prevent_2nd|stop_gradient", _EFFECT),
    (r"symbolic_zero|_record_symbolic|perturb_val", _MACHINE),
    (r"state/|core\.(ref|freeze|accum|empty|free)", _REFS),
    (r"perturbations", _STOCHASTIC),
    (
        r"device_put|reshard|conj_p|edtype|copy|tie_p|composite_p|compute_on|fused_p|noinline",
        _LINEAR,
    ),
    (r"optimization_barrier|xla_metadata|select_if_vmap|eval_jaxpr_p|jit_p|remat|name_p", _LINEAR),
    (r"relayout_p|program_order_p", _LINEAR),
    (r"register_call_primitive_rules", _MACHINE),
    (r"ann.py|ragged_all_to_all|approx_top_k|pbroadcast_dynamic", _ELSE),
    (r"select_and_(scatter|gather)_add", "reached by derivatives of pooling only, linear"),
    (r"sparse/api.py|_fromdense_p|_extract_p", "sparse: the same derivative as its audited forms"),
    (r"mixture_same_family|ScalarFunctionWith|_grad_fn_of_y|ode/base|marginal_fns", _USERS),
    (r"distribute_lib|variadic_reduce|psd_kernel", _USERS),
)


def reason_for(site: Site) -> str:
    """Why a site has no cases; "no arguments written for it" where nothing better is known."""
    if site.tests:
        return "in the package's own tests"
    where = f"{site.file}:{site.name}"
    for pattern, reason in REASONS:
        if re.search(pattern, where):
            return reason
    return "no arguments written for it"
