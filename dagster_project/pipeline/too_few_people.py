"""The end of a release for which nearly nobody is left."""


class TooFewPeople(RuntimeError):
    """The noisy number of people is below the plan's minimum; the message holds nothing else of the
    data, so that it may be shown."""
