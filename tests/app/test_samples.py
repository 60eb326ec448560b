from PIL import Image

from app import samples


def test_buttons_have_names_that_cannot_break_the_page(tmp_path):
    path = tmp_path / "00-${evil}-<b>-{{x}}.png"
    Image.new("L", (28, 28)).save(path)
    template = samples.row([path]).html_template
    assert 'aria-label="Sample: evil} &lt;b&gt; x}}"' in template
    assert "${" not in template
    assert "{{" not in template
    assert 'src="data:image/png;base64,' in template


def test_no_samples_no_row():
    assert samples.row([]).visible is False
