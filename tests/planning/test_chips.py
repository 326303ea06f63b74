import pytest

from softdimo_jax.planning.chips import parse_topology


def test_topology():
  pod = parse_topology('v5e:16x16')
  assert pod.num_chips == 256 and pod.chip.title == 'TPU v5e'
  assert parse_topology('v5p:4x4x4').num_chips == 64
  assert parse_topology('h100:8').num_chips == 8


@pytest.mark.parametrize(
  'text', ['v5e', 'v9:2x2', 'v5e:4', 'v5e:4x4x4', 'v5p:4x4', 'v5e:0x4', ':4x4']
)
def test_what_is_no_topology(text):
  with pytest.raises(ValueError, match='topology'):
    parse_topology(text)
