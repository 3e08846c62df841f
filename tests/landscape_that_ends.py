"""`modelwright landscape` in a process that sends itself a signal when it has so many points.

python landscape_that_ends.py SIGNAL N ARGUMENTS...
"""

import os
import sys

import torch

from modelwright.cli import app
from modelwright.evaluation.landscape_file import PointsFile
from modelwright.evaluation.landscape_map import Point


def send_when_there_are(n_points: int, signal_number: int) -> None:
    add = PointsFile.add

    def add_and_look(self: PointsFile, point: Point) -> None:
        add(self, point)
        if len(self) == n_points:
            os.kill(os.getpid(), signal_number)

    PointsFile.add = add_and_look


if __name__ == "__main__":
    torch.set_num_threads(1)
    send_when_there_are(int(sys.argv[2]), int(sys.argv[1]))
    sys.argv = ["modelwright", "landscape", *sys.argv[3:]]
    app.main()
