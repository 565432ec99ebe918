"""``python -m speechlm_lab``: the same commands as ``speechlm-lab``."""

import sys

from speechlm_lab.cli import main

sys.exit(main())
