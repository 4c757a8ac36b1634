r"""Every formula of the lecture, in its order, as printed, and the step that verifies it.

The lecture: Shen Hengheng, From neural networks to ..., University of Chinese Academy of Sciences,
2019. Where the printed form is a slip, `errata` says what is meant; a step verifies the corrected
form. A claim in words is listed where it can be computed or measured.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Formula:
    """One formula: its number, the slide, TeX as printed (or words), and its step."""

    number: str
    slide: str
    printed: str
    step: str


_SLIDES: dict[str, dict[str, list[str]]] = {
    "Before we talk about deep learning: regression": {
        "step_01_regression": [
            r"sigmoid and tanh: $\sigma' = \sigma (1 - \sigma)$, $\tanh' = 1 - \tanh^2$ (revision)",
            r"logistic regression and softmax regression, with their gradients (revision)",
        ],
    },
    "Feedforward neural network in a nutshell": {
        "step_02_composition": [
            r"$f(\mathbf{x}) = f_L(\ldots f_2(f_1(\mathbf{x}; \theta_1); \theta_2) \ldots; \theta_L)$",
            r"$L_\theta = \frac{1}{n} \sum_{i=1}^n l(\mathbf{y}_i, f(\mathbf{x}_i; \theta))$",
            r"$\theta_{t+1} = \theta_t - \eta \frac{\partial f}{\partial \theta}(\theta_t)$",
        ],
    },
    "We know all about it already from high school mathematics": {
        "step_02_composition": [
            r"product rule: $\frac{\partial}{\partial \theta}(f g) = f \frac{\partial}{\partial \theta}"
            r" g + \frac{\partial}{\partial \theta} g f$",
            r"derivative of sums: $\frac{\partial}{\partial \theta}(f + g) = "
            r"\frac{\partial f}{\partial \theta} + \frac{\partial g}{\partial \theta}$",
            r"chain rule: $\frac{\partial}{\partial \theta_l} = \frac{\partial}{\partial \theta_l}"
            r" f_L(\ldots f_2(f_1(\mathbf{x}; \theta_1); \theta_2) \ldots; \theta_L)$",
            r"$= \frac{\partial f_L}{\partial f_{L-1}^T} \frac{\partial f_{L-1}}{\partial f_{L-2}^T}"
            r" \cdots \frac{\partial f_{l+1}}{\partial f_l^T} \frac{\partial f_l}{\partial \theta_l}$",
        ],
    },
    "Look at neural network systematically": {
        "step_03_scalar_score": [
            r"$\hat{y} = U^T f(W x + b) = U^T a$, with $z = W x + b$",
            r"the same with $W$ written out as a 3 by 3 matrix",
            r"$Z_1 = W_{1,:}^T X + b_1 = \sum_i W_{1,i}^T X_i + b_1$, and so for $Z_2$, $Z_3$",
            r"$W$ (index of $a$, index of $X$)",
        ],
    },
    "Neural networks: backpropagation": {
        "step_03_scalar_score": [
            r"$\frac{\partial \hat{y}}{\partial W} = \frac{\partial \hat{y}}{\partial a}"
            r" \frac{\partial a}{\partial z} \times \frac{\partial z}{\partial W}"
            r" = (U \odot f'(z)) \times x$, a column times a row",
            r"$\frac{\partial \hat{y}}{\partial W_{i,j}} = \frac{\partial \hat{y}}{\partial a}"
            r" \frac{\partial a}{\partial z} \frac{\partial z}{\partial W_{i,j}} ="
            r" U_i f'(Z_i) X_j = U_i f'(W_{i,:}^T X + b_i) X_j$",
            r"$Z_i = W_{i,:}^T X + b_i = (W X + b)_i$",
            r"$\delta = U \odot f'(W X + B)$, each element $\delta_i = U_i f'(W_{i,:}^T X + b_i)$",
            r"$\frac{\partial \hat{y}}{\partial W} = \delta x^T$",
            r"$\delta$ is the error signal, $\frac{\partial \hat{y}}{\partial z}$",
            r"$\delta$ involves the derivatives of all the activations $a_i = f(z_i)$",
            r"$\frac{\partial \hat{y}}{\partial b_i} = \delta_i 1 = \delta_i$",
            r"$\frac{\partial \hat{y}}{\partial x_j} = \sum_{i=1}^3 \frac{\partial \hat{y}}{\partial a_i}"
            r" \frac{\partial a_i}{\partial x_j} = \sum_i U_i \frac{\partial f(W_{i,:} x + b)}"
            r"{\partial x_j} = \sum_i \delta_i W_{i,j} = \delta^T W_{:,j}$",
        ],
    },
    "Backpropagation for two layers": {
        "step_04_two_layers": [
            r"$a^{(0)} = x$, $z^{(1)} = W^{(1)} a^{(0)} + b^{(1)}$, $a^{(1)} = f(z^{(1)})$,"
            r" $z^{(2)} = W^{(2)} a^{(1)} + b^{(2)}$, $a^{(2)} = f(z^{(2)})$, $\hat{y} = U^T a^{(2)}$",
            r"$\hat{y} = U^T f(W^{(2)} f(W^{(1)} x + b^{(1)}) + b^{(2)})$",
            r"$\frac{\partial \hat{y}}{\partial W_{i,j}} = U_i f'(z_i) X_j$ (one layer case)",
            r"$\frac{\partial \hat{y}}{\partial W_{i,j}^{(2)}} = U_i f'(z_i^{(2)}) a_j^{(2)}"
            r" = \delta_i^{(2)} a_j^{(2)}$",
            r"$\frac{\partial \hat{y}}{\partial W^{(2)}} = \delta_i^{(2)} a^{(2)T}$ where"
            r" $\delta^{(2)} = U \odot f'(z^{(2)})$",
            r"$\frac{\partial \hat{y}}{\partial W^{(1)}} = \frac{\partial \hat{y}}{\partial a^{(2)}}"
            r" \frac{\partial a^{(2)}}{\partial z^{(2)}} \frac{\partial a^{(2)}}{\partial a^{(1)}}"
            r" \frac{\partial z^{(1)}}{\partial z^{(1)}} \frac{\partial z^{(1)}}{\partial z^{(1)}}"
            r" \frac{\partial z^{(1)}}{\partial W^{(1)}}$, and again with other indices",
            r"$= \delta^{(2)} W^{(2)} f'(z^{(2)}) X = \delta^{(1)} X$",
            r"$= (W^{(2)T} \delta^{(2)}) \odot f(z^{(2)}) X^T$",
            r"$\delta^{(2)} = W^{(2)T} \delta^{(2)} \odot f(z^{(2)})$",
        ],
    },
    "Backpropagation in action": {
        "step_05_recursion": [
            r"$\delta^{(l)} = W^{(l)T} \delta^{(l)} \odot f(z^{(l)})$",
            r"step 1: $\delta^{(L)} = U \odot f'(z^{(L)})$, with $f'$ from the feedforward",
            r"step 2: $\delta^{(l)} = W^{(l)T} \delta^{(l)} \odot f'(z^{(l)})$ for the whole sequence",
            r"step 3: $\frac{\partial \hat{y}}{\partial W^{(l)}} = \delta^{(l+1)} a^{(l)T}$",
            r"$\frac{\partial \hat{y}}{\partial W^{(l)}}$ is there as soon as $\delta^{(l+1)}$ is",
        ],
    },
    "Feedforward neural network with many layers": {
        "step_05_recursion": [
            r"an $(L+1)$-layer perceptron with $D$ inputs, $C$ outputs and $m^{(l)}$ hidden units",
            r"layers: linear, softmax, ReLU or any other, each with its own $\theta^{(l)}$",
        ],
        "step_06_many_layers": [
            r"many layers, hence many parameters; one megapixel image",
            r"parameter sharing",
        ],
    },
    "Convolution neural networks: what is a convolution?": {
        "step_07_convolution": [
            r"$(f * g)(t) = \int_{-\infty}^\infty f(\tau) g(t - \tau) d\tau$",
            r"$= \int_{-\infty}^\infty f(t - \tau) g(\tau) d\tau$",
            r"a 3 by 3 kernel over a 5 by 5 input with padding 1",
        ],
    },
    "Convolution kernels and their number": {
        "step_06_many_layers": [
            r"128 convolution kernels create 64 copies of the image",
            r"128 kernels of 5 by 5: $128 \times 5 \times 5 = 3200$ parameters",
            r"a lot less than fully connected",
        ],
    },
    "CNN for image classification; what does the learnt feature represent?": {
        "step_09_image_classification": [
            r"a convolutional network classifies images, end to end",
            r"how to combine the different convolved images together",
        ],
        "step_10_learnt_features": [r"what the learnt image feature represents"],
    },
    "CNN feed-forward: convolution as a linear operator": {
        "step_07_convolution": [
            r"$x_{ij}^{(l)} = W * y^{(l-1)}$, $y_{ij}^{(l)} = \sigma(x_{ij}^{(l)})$",
            r"$x^{(l)} = W * y^{(l-1)}$ as a Toeplitz matrix times $(y_1, \ldots, y_n)^T$",
        ],
    },
    "CNN feed-forward: looking at one layer only": {
        "step_07_convolution": [
            r"with stride 0, $x^{(l)}$ is of size $(N - m + 1) \times (N - m + 1)$",
            r"shift the centre by $(\frac{m}{2}, \frac{m}{2})$",
            r"$x_{ij}^{(l)} = \sum_{a=0}^{m-1} \sum_{b=0}^{m-1} \omega_{ab} y_{(i+a)(j+b)}^{(l-1)}$",
            r"$y_{ij}^{(l)} = \delta(x_{ij}^{(l)})$",
        ],
    },
    "CNN back-propagation": {
        "step_08_convolution_backprop": [
            r"$\frac{\partial y_{ij}^{(l)}}{\partial x_{ij}^{(l)}} = \sigma'(x_{ij}^{(l)})$",
            r"$\frac{\partial x_{ij}^{(l)}}{\partial w_{a,b}^{(l)}} = y_{ia,j+b}^{(l-1)}$",
            r"$\frac{\partial x_{(i-a)(j-b)}^{(l)}}{\partial y_{ij}^{(l-1)}} = \omega_{a,b}$",
            r"$\frac{\partial E}{\partial y_{ij}^{(l-1)}} = \sum_{a=0}^{m-1} \sum_{b=0}^{m-1}"
            r" \frac{\partial E}{\partial x_{(i-a)(j-b)}^{(l)}}"
            r" \frac{\partial x_{(i-a)(j-b)}^{(l)}}{\partial y_{ij}^{(l-1)}}$",
            r"$= \sum_{a=0}^{m-1} \sum_{b=0}^{m-1} \frac{\partial E}{\partial y_{ij}^{(l)}}"
            r" \sigma'(x_{(i-a)j-b}^{(l)}) \omega_{a,b}$",
            r"$\frac{\partial E}{\partial y_{ij}^{(l-1)}} = \sum_{i=0}^{N-m+1} \sum_{j=0}^{N-m+1}"
            r" \frac{\partial E}{\partial x_{ij}^{(l)}}"
            r" \frac{\partial x_{ij}^{(l)}}{\partial w_{a,b}}$ (for $\frac{\partial E}{\partial w_{a,b}}$)",
            r"$= \sum_{i=0}^{N-m+1} \sum_{j=0}^{N-m+1} \frac{\partial E}{\partial y_{ij}^{(l)}}"
            r" \sigma'(x_{i,j}^{(l)}) y_{i+a,j+b}^{(l-1)}$",
        ],
    },
    "The winning ingredient: rectified linear unit": {
        "step_11_relu": [
            r"$f(x) = \max(0, x)$",
            r"its derivative can only be in $\{0, 1\}$",
            r"this is useful to prevent gradients from vanishing and exploding",
            r"no exponential is computed, as sigmoid and tanh do",
            r"around 6 times the speed of existing activation functions",
        ],
    },
}


def _numbered() -> tuple[Formula, ...]:
    entries = [
        (slide, printed, step)
        for slide, steps in _SLIDES.items()
        for step, formulas in steps.items()
        for printed in formulas
    ]
    return tuple(Formula(f"F{i}", *entry) for i, entry in enumerate(entries, 1))


FORMULAS = _numbered()


def of_step(step: str) -> tuple[Formula, ...]:
    """The formulas that a step verifies.

    >>> [formula.number for formula in of_step("step_01_regression")]
    ['F1', 'F2']
    """
    return tuple(formula for formula in FORMULAS if formula.step == step)
