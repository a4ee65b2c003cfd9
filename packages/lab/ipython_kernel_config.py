# Read by every kernel of this environment (sys.prefix/etc/ipython).
c = get_config()  # noqa: F821
c.InteractiveShellApp.extensions.append("mlscale_lab.missing_names")
