"""Sizes: examples that people know, and what holds for all."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.transcoding.sizes import NEARLY, display_size, fit, same_shape, scale, too_large

FULL_HD = (1920, 1080)
sides = st.integers(16, 8192)


class TestFit(SynchronousTestCase):
    def test_the_ladder_of_full_hd(self) -> None:
        boxes = [(1920, 1080), (1280, 720), (854, 480), (640, 360)]
        self.assertEqual([fit(FULL_HD, box) for box in boxes], boxes)

    def test_other_shapes_lie_inside_the_box(self) -> None:
        self.assertEqual(fit((1440, 1080), (1280, 720)), (960, 720))
        self.assertEqual(fit((2560, 1080), (1280, 720)), (1280, 540))

    def test_a_box_is_turned_for_a_phone_held_upright(self) -> None:
        self.assertEqual(fit((1080, 1920), (1280, 720)), (720, 1280))
        self.assertEqual(fit((1080, 1920), (854, 480)), (480, 854))

    def test_a_square_lies_in_both(self) -> None:
        self.assertEqual(fit((1000, 1000), (1280, 720)), (720, 720))

    def test_odd_sources_get_even_sides(self) -> None:
        self.assertEqual(fit((853, 481), (854, 480)), (852, 480))
        self.assertEqual(fit((641, 361), (1920, 1080)), (640, 360))

    def test_nothing_is_scaled_up(self) -> None:
        self.assertEqual(fit((640, 360), FULL_HD), (640, 360))
        self.assertTrue(too_large((1280, 720), FULL_HD))
        self.assertFalse(too_large((1276, 716), (1280, 720)))
        self.assertEqual(fit((1276, 716), (1280, 720)), (1276, 716))

    @given(sides, sides, sides, sides)
    def test_any_source_in_any_box(self, width: int, height: int, wide: int, high: int) -> None:
        box = (wide & ~1, high & ~1)
        made = fit((width, height), box)
        self.assertTrue(all(side % 2 == 0 and side >= 16 for side in made))
        self.assertLessEqual(made[0], max(width, 16))
        self.assertLessEqual(made[1], max(height, 16))
        self.assertLessEqual(sorted(made)[1], max(box))
        self.assertLessEqual(sorted(made)[0], min(box))
        factor = min(scale((width, height), box), Fraction(1))
        for side, side_made in ((width, made[0]), (height, made[1])):
            if side_made > 16:
                self.assertLessEqual(abs(side * factor - side_made), 2)


class TestDisplaySize(SynchronousTestCase):
    def test_anamorphic_pictures_are_widened(self) -> None:
        self.assertEqual(display_size(1440, 1080, Fraction(4, 3)), FULL_HD)
        self.assertEqual(display_size(720, 576, Fraction(16, 15)), (768, 576))

    def test_narrow_pixels_make_it_higher_instead_of_smaller(self) -> None:
        self.assertEqual(display_size(720, 480, Fraction(8, 9)), (720, 540))

    def test_a_shape_of_nothing_is_square(self) -> None:
        self.assertEqual(display_size(720, 480, Fraction(0)), (720, 480))

    def test_a_quarter_turn_swaps_the_sides(self) -> None:
        self.assertEqual(display_size(1920, 1080, Fraction(1), 90), (1080, 1920))
        self.assertEqual(display_size(1920, 1080, Fraction(1), -90), (1080, 1920))
        self.assertEqual(display_size(1920, 1080, Fraction(1), 180), FULL_HD)


class TestShapes(SynchronousTestCase):
    def test_rounding_is_no_other_shape(self) -> None:
        self.assertTrue(same_shape((854, 480), (640, 360)))
        self.assertTrue(same_shape((426, 240), FULL_HD))
        self.assertFalse(same_shape((1440, 1080), FULL_HD))
        self.assertFalse(same_shape((1080, 1920), FULL_HD))

    def test_nearly_is_a_little_above_one(self) -> None:
        self.assertTrue(1 < NEARLY < Fraction(11, 10))
