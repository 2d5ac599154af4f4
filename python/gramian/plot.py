"""Pictures, where matplotlib is installed."""


def accuracy_curves(curves, path):
    """Draws accuracy on all classes seen against the phase of a stream, one panel per stream, to a file.

    Parameters
    ----------
    curves : list of (str, list of float, list of float or None)
        Title, the accuracy after each phase, and that of joint training: None where it was not computed.
    path : path-like
        The suffix names the format, such as ``.png``.

    Returns
    -------
    bool
        False where matplotlib is missing; nothing is written then.
    """
    # Figure alone: pyplot would pick a window system and keep global state.
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        return False
    figure = Figure(figsize=(3.6 * len(curves) + 0.4, 3.2), layout="constrained")
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for panel, (title, streamed, joint) in zip(panels, curves, strict=True):
        phases = range(1, len(streamed) + 1)
        panel.plot(phases, streamed, "-", color="tab:blue", label="stream, no stored rows")
        known = [(phase, value) for phase, value in zip(phases, joint, strict=True) if value is not None]
        if known:
            panel.plot(*zip(*known, strict=True), "o", mfc="none", color="tab:orange", label="joint training, NumPy")
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("phase")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy on all classes seen")
    panels[0].legend(fontsize=8)
    figure.savefig(path, dpi=150)
    return True
