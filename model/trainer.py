"""Networks, optimisers and one training step."""

import random

import numpy as np
import paddle

from model import checkpoint
from model.discriminator import define_D
from model.encoder import define_E
from model.errors import UserError
from model.generator import define_G
from model.loss import feature_matching_loss, gan_loss, kld_loss, perceptual_loss
from model.semantics import Semantics

LOSSES = ("g_loss_gan", "g_loss_feat", "g_loss_vgg", "g_loss_vae", "d_loss", "d_loss_f", "d_loss_r")


def seed_everything(seed):
    """Seed Python, NumPy and Paddle."""
    random.seed(seed)
    np.random.seed(seed)
    paddle.seed(seed)


def as_tensor(array):
    """A tensor as it is, an array as a tensor (Paddle's own conversion copies tensors and warns of it)."""
    return array if isinstance(array, paddle.Tensor) else paddle.to_tensor(array)


def halves(scales):
    """Split the discriminator's output on [fake; real] into the two, along the batch axis."""
    n = scales[0][0].shape[0] // 2
    return [[t[:n] for t in scale] for scale in scales], [[t[n:] for t in scale] for scale in scales]


class Trainer:
    """G, D and E with their optimisers; `step` is one iteration as the released code orders it.

    Args:
        opt: the options.
        vgg: a `VGG19` with its weights; required unless opt.no_vgg_loss.
    """

    def __init__(self, opt, vgg=None):
        if not opt.no_vgg_loss and vgg is None:
            raise UserError("the perceptual loss needs VGG19's weights: pass vgg, or set no_vgg_loss")
        opt.check_geometry()
        seed_everything(opt.seed)
        self.opt, self.vgg = opt, None if opt.no_vgg_loss else vgg
        self.G, self.D = define_G(opt), define_D(opt)
        self.E = define_E(opt) if opt.use_vae else None
        beta1, beta2 = opt.betas
        lr_G, lr_D = opt.learning_rates
        adam = {"beta1": beta1, "beta2": beta2, "epsilon": 1e-8}
        parameters = self.G.parameters() + (self.E.parameters() if self.E else [])
        self.optimizer_G = paddle.optimizer.Adam(lr_G, parameters=parameters, **adam)
        self.optimizer_D = paddle.optimizer.Adam(lr_D, parameters=self.D.parameters(), **adam)
        self.steps = 0  # finished ones
        self.draws = 0  # of style noise
        self.losses = dict.fromkeys(LOSSES, 0.0)

    def networks(self):
        """{'n_g': G, 'n_d': D, 'n_e': E}, without E if there is none."""
        nets = {"n_g": self.G, "n_d": self.D, "n_e": self.E}
        return {name: net for name, net in nets.items() if net is not None}

    def _optimizers(self):
        """{name: (optimiser, the networks that it trains)}."""
        nets = self.networks()
        d = {"n_d": nets.pop("n_d")}
        return {"optimizer_G": (self.optimizer_G, nets), "optimizer_D": (self.optimizer_D, d)}

    def state_dict(self):
        """All that the next step depends on beside the networks' weights: plain numbers and arrays."""
        state = {"steps": self.steps, "draws": self.draws, "losses": dict(self.losses)}
        for name, (optimizer, nets) in self._optimizers().items():
            state[name] = checkpoint.optimizer_state(optimizer, nets)
        return state

    def load_state_dict(self, state, where):
        """Put back what `state_dict` returned; `where` names its file in messages.

        Raises:
            UserError: The state belongs to other networks.
        """
        for name, (optimizer, nets) in self._optimizers().items():
            checkpoint.load_optimizer(optimizer, nets, state[name], where)
        self.steps, self.draws, self.losses = state["steps"], state["draws"], dict(state["losses"])

    @paddle.no_grad()
    def preview(self, batch):
        """Pictures [N,3,H,W] in [-1,1] of a batch's maps, in evaluation mode; changes nothing that training depends on.

        Their style is the mean of the encoder's distribution for the photo, or zeros where there is no photo.
        """
        for net in self.networks().values():
            net.eval()
        z = None
        if self.E:
            n, photo = len(batch["label"]), batch.get("image")
            z = paddle.zeros([n, self.opt.z_dim]) if photo is None else self.E(as_tensor(photo))[0]
        return self.G(Semantics.from_batch(batch, self.opt), z)

    def set_epoch(self, epoch):
        """Set both learning rates for an epoch, counted from 1: constant for niter, then linear decay."""
        factor = self.opt.decay(epoch)
        for optimizer, lr in zip((self.optimizer_G, self.optimizer_D), self.opt.learning_rates, strict=True):
            optimizer.set_lr(lr * factor)

    def sample_noise(self, shape):
        """Standard normal style noise [N, z_dim], float32; the one place where it is drawn.

        A function of the seed, the number of draws before and the sample's place in the batch, so that it is
        reproducible, needs no state but the count, and does not depend on how many processes share the batch.
        """
        n, z_dim = shape
        rows = [
            np.random.Generator(np.random.Philox(key=[self.opt.seed, 1], counter=[0, 0, self.draws, place]))
            for place in range(n)
        ]
        self.draws += 1
        return paddle.to_tensor(np.stack([row.standard_normal(z_dim, dtype=np.float32) for row in rows]))

    def encode(self, image):
        """Style of photos: z [N, z_dim] drawn from the encoder's distribution, and its mu and logvar."""
        mu, logvar = self.E(image)
        return self.sample_noise(mu.shape) * (0.5 * logvar).exp() + mu, mu, logvar

    def discriminate(self, semantics, fake, real):
        """D on fake and real as one batch, so that its batch norms see both; returns the two outputs."""
        return halves(self.D.features(semantics, paddle.concat([fake, real])))

    def step(self, batch):
        """One iteration: G (and E) against D's losses, then D on a fresh fake.

        Args:
            batch: image [N,3,H,W] float32 in [-1,1], label [N,H,W] integer with unknown as label_nc, instance [N,H,W]
                integer unless no_instance.

        Returns:
            The seven losses as floats, weighted by their lambdas; when D_steps_per_G > 1, G's are those of its last step.
        """
        image = as_tensor(batch["image"])
        semantics = Semantics.from_batch(batch, self.opt)
        for net in self.networks().values():
            net.train()
        if self.steps % self.opt.D_steps_per_G == 0:
            self.step_G(semantics, image)
        self.step_D(semantics, image)
        self.steps += 1
        self.losses = {name: float(value) for name, value in self.losses.items()}
        return dict(self.losses)

    def freeze_D(self, frozen):
        """Whether D's weights get no gradient."""
        for p in self.D.parameters():
            p.stop_gradient = frozen

    def step_G(self, semantics, image):
        """Update G and E."""
        opt, losses = self.opt, {}
        z = None
        if self.E:
            z, mu, logvar = self.encode(image)
            losses["g_loss_vae"] = opt.lambda_kld * kld_loss(mu, logvar)
        generated = self.G(semantics, z)
        self.freeze_D(True)  # this step throws the gradient of D's weights away
        fake, real = self.discriminate(semantics, generated, image)
        losses["g_loss_gan"] = gan_loss(fake, True, opt.gan_mode, for_discriminator=False)
        if not opt.no_ganFeat_loss:
            losses["g_loss_feat"] = opt.lambda_feat * feature_matching_loss(fake, real)
        if self.vgg is not None:
            losses["g_loss_vgg"] = opt.lambda_vgg * perceptual_loss(self.vgg, generated, image)
        sum(losses.values()).backward()
        self.freeze_D(False)
        self.optimizer_G.step()
        self.optimizer_G.clear_grad()
        self.losses.update({name: loss.detach() for name, loss in losses.items()})

    def step_D(self, semantics, image):
        """Update D on a fresh fake; G and E run in training mode, as the released code has it."""
        self.optimizer_D.clear_grad()
        with paddle.no_grad():
            generated = self.G(semantics, self.encode(image)[0] if self.E else None)
        fake, real = self.discriminate(semantics, generated, image)
        losses = {
            "d_loss_f": gan_loss(fake, False, self.opt.gan_mode),
            "d_loss_r": gan_loss(real, True, self.opt.gan_mode),
        }
        loss = losses["d_loss_f"] + losses["d_loss_r"]
        loss.backward()
        self.optimizer_D.step()
        self.optimizer_D.clear_grad()
        self.losses.update({name: value.detach() for name, value in losses.items()}, d_loss=loss.detach())
