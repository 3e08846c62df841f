"""How gradients become updates: one optimizer a rule, over parameters that keep their names."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from modelwright.model.width import rate_factor, role_of
from modelwright.training.fused import FusedAdamW, FusedOptimizer, FusedSgd
from modelwright.training.muon import Muon
from modelwright.training.optimizers import OptimizerConfig, UpdateRule

Part = FusedOptimizer | Muon


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that one rule changes with one weight decay and one share of the learning rate."""

    rule: UpdateRule
    weight_decay: float
    names: tuple[str, ...]
    n_parameters: int
    rate_factor: float = 1.0

    @property
    def n_tensors(self) -> int:
        """Number of tensors that the parameters are in."""
        return len(self.names)


def parameter_groups(
    model: nn.Module, config: OptimizerConfig, *, width_ratio: float = 1.0
) -> list[ParameterGroup]:
    """Divide a model's parameters, each shared one counted once.

    Matrices and embeddings decay; norms and biases do not.

    Args:
        width_ratio: of the model that the learning rate was found with to this one, from which
            shares of the rate follow by the rule of `model/width.py`.
    """
    parameters = dict(model.named_parameters())
    is_tied = "unembedding.weight" not in parameters
    members: dict[tuple[UpdateRule, float, float], list[str]] = {}
    for name, parameter in parameters.items():
        rule = _rule(config.kind, name, parameter)
        role = role_of(name, n_axes=parameter.ndim, is_tied=is_tied)
        factor = rate_factor(role, width_ratio, rule)
        weight_decay = config.weight_decay / factor if parameter.ndim >= 2 else 0.0
        members.setdefault((rule, weight_decay, factor), []).append(name)
    return [
        ParameterGroup(
            rule, decay, tuple(names), sum(parameters[name].numel() for name in names), factor
        )
        for (rule, decay, factor), names in members.items()
    ]


def _rule(kind: UpdateRule, name: str, parameter: Tensor) -> UpdateRule:
    """Muon is for matrices that turn hidden vectors into hidden vectors."""
    if kind != "muon":
        return kind
    return "muon" if name.startswith("blocks.") and parameter.ndim == 2 else "adamw"


class Optimizer:
    """An optimizer for each update rule that a model's parameters need.

    - adamw keeps running means of the gradient and of its square, and moves by their ratio.
      Source: Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2.
    - sgd moves by a decaying sum of gradients, the newest counting fully and without looking
      ahead, so that its steps grow to 1 / (1 - momentum) gradients.
      Source: Sutskever et al. 2013, "On the importance of initialization and momentum in deep
      learning", equations 1 and 2, with the learning rate outside the sum.
    - muon makes the running mean of a matrix's gradients, one step ahead (Nesterov), nearly
      orthogonal, and scales it to the size of an AdamW update, so that both share a learning
      rate. The iteration runs in bf16. The queries', keys' and values' matrix is one to it.
      Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks";
      Liu et al. 2025, "Muon is Scalable for LLM Training", equation 4, for the scale.
    """

    def __init__(
        self, model: nn.Module, config: OptimizerConfig, *, width_ratio: float = 1.0
    ) -> None:
        self._parameters = dict(model.named_parameters())
        self._groups = parameter_groups(model, config, width_ratio=width_ratio)
        by_rule: dict[UpdateRule, list[ParameterGroup]] = {}
        for group in self._groups:
            by_rule.setdefault(group.rule, []).append(group)
        self._part_of: dict[str, Part] = {}
        for rule, groups in by_rule.items():
            part = _make_part(rule, [self._for_torch(group) for group in groups], config)
            self._part_of |= {name: part for group in groups for name in group.names}
        self.parts = tuple(dict.fromkeys(self._part_of.values()))
        self.n_loads = 0  # how often the state's tensors were replaced

    def groups(self) -> list[ParameterGroup]:
        """Which parameters are changed how."""
        return self._groups

    def step(
        self,
        learning_rate: float | Tensor,
        *,
        divisor: Tensor | None = None,
        void: Tensor | None = None,
    ) -> None:
        """Change the parameters in place by their gradients, without waiting for the device.

        Args:
            learning_rate: a tensor is read when the device comes to it.
            divisor: a number by which the gradients are divided, in fp32 or wider.
            void: a number in fp32; 1 keeps everything as it is, whatever the gradients are.
        """
        for part in self.parts:
            for group in part.param_groups:
                factor = group["rate_factor"]
                group["lr"] = learning_rate if factor == 1 else learning_rate * factor
            part.grad_scale, part.found_inf = divisor, void
            part.step()

    def zero_grad(self) -> None:
        """Free the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def named_state(self) -> dict[str, Tensor]:
        """What the next step depends on besides parameters and gradients.

        Returns:
            The tensors themselves, not copies, by the parameter's name and their own, such as
            "blocks.0.mlp.up.weight/exp_avg"; none before the first step.
        """
        return {
            f"{name}/{kind}": tensor
            for name, parameter in self._parameters.items()
            for kind, tensor in self._part_of[name].state.get(parameter, {}).items()
        }

    def load_named_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue as the optimizer whose `named_state` this was, in place of any own state.

        Args:
            tensors: on any device; they are copied to that of the parameter. None at all stand
                for an optimizer that has not stepped.

        Raises:
            ValueError: if one is missing, left over, or of another shape; nothing is changed.
        """
        expected = {
            f"{name}/{kind}": shape
            for name, parameter in self._parameters.items()
            for kind, shape in _state_shapes(self._part_of[name], parameter).items()
        }
        if tensors:
            _check_fit(tensors, expected)
        self.n_loads += 1
        for part in self.parts:
            part.state.clear()
        for key, tensor in tensors.items():
            name, _, kind = key.rpartition("/")
            parameter = self._parameters[name]
            # The fused kernels want their count of steps where the parameter is, too.
            copied = tensor.to(parameter.device, copy=True)
            self._part_of[name].state[parameter][kind] = copied

    def _for_torch(self, group: ParameterGroup) -> dict[str, object]:
        parameters = [self._parameters[name] for name in group.names]
        return {
            "params": parameters,
            "weight_decay": group.weight_decay,
            "rate_factor": group.rate_factor,
        }


def _make_part(rule: UpdateRule, groups: list[dict[str, object]], config: OptimizerConfig) -> Part:
    match rule:
        case "adamw":
            betas = (config.beta1, config.beta2)
            return FusedAdamW(groups, betas=betas, epsilon=config.epsilon)
        case "sgd":
            return FusedSgd(groups, momentum=config.momentum)
        case "muon":
            return Muon(groups, lr=0.0, momentum=config.momentum, nesterov=True)


def _state_shapes(part: Part, parameter: Tensor) -> dict[str, torch.Size]:
    """What a part keeps about a parameter once it has stepped."""
    if isinstance(part, FusedAdamW):
        return {"step": torch.Size(), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
    if isinstance(part, FusedOptimizer):
        return dict.fromkeys(part.kinds, parameter.shape)
    return {"momentum_buffer": parameter.shape}


def _check_fit(tensors: Mapping[str, Tensor], expected: Mapping[str, torch.Size]) -> None:
    problems = {
        "missing": [key for key in expected if key not in tensors],
        "left over": [key for key in tensors if key not in expected],
        "of another shape": [
            f"{key} {tuple(tensors[key].shape)} instead of {tuple(shape)}"
            for key, shape in expected.items()
            if key in tensors and tensors[key].shape != shape
        ],
    }
    if any(problems.values()):
        found = "; ".join(
            f"{problem}: {', '.join(keys[:3])}" + (f" and {len(keys) - 3} more" * (len(keys) > 3))
            for problem, keys in problems.items()
            if keys
        )
        raise ValueError(
            "the saved state of the optimizer is not that of this model and optimizer "
            f"({found}); use the settings that it was saved with"
        )
