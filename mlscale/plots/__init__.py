"""One function per figure: runs or tables in, matplotlib axes out; `plotted` returns the numbers that they show."""
