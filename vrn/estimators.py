"""scikit-learn classifiers by name: 'sklearn:SVC(kernel=linear)' becomes an estimator.

Estimators may be nested: `sklearn:SelfTrainingClassifier(SVC(kernel=linear), threshold=0.7)`.
"""

from __future__ import annotations

import ast
import difflib
import functools
from collections.abc import Mapping

from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.utils import all_estimators

from data.errors import UserError

PREFIX = "sklearn:"
# scikit-learn's own limit on the MLP's epochs stops it before it converges on a few hundred rows.
DEFAULTS: Mapping[str, Mapping[str, object]] = {"MLPClassifier": {"max_iter": 2000}}


def probabilistic(name: str, fewest: int, seed: int) -> ClassifierMixin:
    """The classifier that `name` describes, with `predict_proba` and its randomness seeded.

    Args:
      name: see `parse`.
      fewest: labels of the rarer kind; bounds the folds of the calibration, at least 2.
      seed: of all estimators in it.

    Raises:
      UserError: see `parse`.
    """
    estimator = _with_probabilities(parse(name), folds=min(5, fewest))
    names = [name for name in estimator.get_params() if name.endswith("random_state")]
    return estimator.set_params(**dict.fromkeys(names, seed))


def is_semi_supervised(estimator: ClassifierMixin) -> bool:
    """Whether it also learns from rows without a label, which scikit-learn marks with -1."""
    return type(estimator).__module__.startswith("sklearn.semi_supervised")


@functools.cache
def _classifiers() -> dict[str, type[ClassifierMixin]]:
    return dict(all_estimators(type_filter="classifier"))


def parse(name: str) -> ClassifierMixin:
    """The scikit-learn classifier that 'sklearn:NAME' or 'sklearn:NAME(key=value, …)' names.

    Values are Python literals, bare words (taken as strings) or further estimators; an argument
    without a key is the estimator to wrap.

    Raises:
      UserError: not this form, unknown estimator (near matches are listed) or argument.
    """
    text = name.removeprefix(PREFIX).strip()
    try:
        node = ast.parse(text, mode="eval").body
        return _build(node, name)
    except (SyntaxError, ValueError) as error:
        raise UserError(
            f"Cannot read annotator {name!r}; write it like 'sklearn:SVC(kernel=linear, C=10)'."
        ) from error


def _build(node: ast.expr, name: str) -> ClassifierMixin:
    func = node.func if isinstance(node, ast.Call) else node
    if not isinstance(func, ast.Name):
        raise ValueError("not the name of an estimator")
    if func.id not in _classifiers():
        near = difflib.get_close_matches(func.id, _classifiers(), n=3, cutoff=0.5)
        raise UserError(
            f"Annotator {name!r}: scikit-learn has no classifier {func.id!r}"
            + (f"; did you mean {', '.join(near)}?" if near else ".")
        )
    arguments = dict(DEFAULTS.get(func.id, {}))
    if isinstance(node, ast.Call):
        if len(node.args) > 1:
            raise ValueError("more than one argument without a key")
        if node.args:
            arguments["estimator"] = _value(node.args[0], name)
        arguments |= {keyword.arg: _value(keyword.value, name) for keyword in node.keywords}
    try:
        return _classifiers()[func.id](**arguments)
    except TypeError as error:
        raise UserError(f"Annotator {name!r}: {error}.") from error


def _value(node: ast.expr, name: str) -> object:
    is_name = isinstance(node, ast.Name)
    if isinstance(node, ast.Call) or (is_name and node.id in _classifiers()):
        return _build(node, name)
    return node.id if is_name else ast.literal_eval(node)


def _with_probabilities(estimator: ClassifierMixin, folds: int) -> ClassifierMixin:
    """Gives an estimator without `predict_proba` Platt's sigmoid over its decision function.

    The one estimator inside a wrapper gets it too: self-training chooses rows by probability.
    """
    inner = estimator.get_params(deep=False).get("estimator")
    if isinstance(inner, BaseEstimator):
        estimator.set_params(estimator=_with_probabilities(inner, folds))
    if hasattr(estimator, "predict_proba"):
        return estimator
    return CalibratedClassifierCV(estimator, method="sigmoid", ensemble=False, cv=folds)
