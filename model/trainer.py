"""Networks, optimisers and one training step."""

import contextlib
import functools
from typing import NamedTuple

import numpy as np
import paddle

from model.convolution import one_power_iteration
from model.discriminator import define_D
from model.encoder import define_E
from model.errors import UserError
from model.generator import define_G
from model.loss import feature_matching_loss, gan_loss, kld_loss, perceptual_loss
from model.ops import group
from model.ops.device import as_tensor
from model.ops.gradient_sum import GradientSum
from model.ops.memory import keep_large_maps
from model.semantics import Part, Semantics
from model.training.adam import Adam, with_betas
from model.training.ema import Average
from model.training.loss_log import COLUMNS
from model.training.optimizer_state import load_optimizer, optimizer_state
from model.weights.networks import load_net

SUMMED = ("g_loss_vae",)  # over the pictures of a batch; the others are means


def check_precision(opt):
    """Mixed precision is for GPUs: Paddle's casts do nothing elsewhere.

    Raises:
        UserError: It is asked for on another device.
    """
    if opt.amp and not paddle.get_device().startswith("gpu"):
        raise UserError(
            f"amp needs a GPU, and the device is {paddle.get_device()}: give --device gpu, or leave out --amp"
        )


def float32(result):
    """A tensor, or lists and tuples of tensors, in float32."""
    return result.astype("float32") if isinstance(result, paddle.Tensor) else [float32(part) for part in result]


def halves(scales):
    """Split the discriminator's output on [fake; real] into the two, along the batch axis."""
    pairs = [[paddle.split(t, 2) for t in scale] for scale in scales]
    return [[fake for fake, _ in scale] for scale in pairs], [[real for _, real in scale] for scale in pairs]


class MicroBatch(NamedTuple):
    """A part of a batch that is computed at once."""

    semantics: Semantics
    image: paddle.Tensor
    noise: paddle.Tensor | None  # of the styles
    fraction: float  # of the batch's pictures
    is_last: bool


def micro_batches(count, semantics, image, noise=None):
    """Yield a batch in `count` parts of (nearly) equal size, at most one for each picture.

    A part's one-hot maps are released with it.
    """
    n = len(semantics)
    count = min(count, n)
    if count == 1:
        yield MicroBatch(semantics, image, noise, 1.0, True)
        return
    edges = [n * i // count for i in range(count + 1)]
    for begin, end in zip(edges[:-1], edges[1:], strict=True):
        styles = None if noise is None else noise[begin:end]
        yield MicroBatch(Part(semantics, begin, end), image[begin:end], styles, (end - begin) / n, end == n)


class Trainer:
    """G, D and E with their optimisers; `step` is one iteration as the released code orders it.

    In a process group (`model.ops.group`) the processes share a batch: each is given its part of it, of the same size
    as the others', and all do the step of the whole batch, as one process would.

    Args:
        opt: the options.
        vgg: a `VGG19` with its weights; required unless opt.no_vgg_loss.
        batches: with opt.ema, a callable that gives the training batches on which the averaged networks' statistics
            are estimated, the same at each call.

    Raises:
        UserError: The networks, losses or precision asked for cannot be had.
    """

    def __init__(self, opt, vgg=None, batches=None):
        if not opt.no_vgg_loss and vgg is None:
            raise UserError("the perceptual loss needs VGG19's weights: pass vgg, or set no_vgg_loss")
        opt.check_geometry()
        check_precision(opt)
        np.random.seed(opt.seed)  # draws the weights
        paddle.seed(opt.seed)
        self.opt, self.vgg = opt, None if opt.no_vgg_loss else vgg
        self.G, self.D = define_G(opt), define_D(opt)
        self.E = define_E(opt) if opt.use_vae else None
        self.average = None
        self.copy_from_first()
        beta1, beta2 = opt.betas
        lr_G, lr_D = opt.learning_rates
        adam = {"beta1": beta1, "beta2": beta2, "epsilon": 1e-8}
        of_G, of_E = self.G.parameters(), self.E.parameters() if self.E else []
        self.optimizer_G = Adam(lr_G, parameters=of_G + of_E, **adam)
        self.optimizer_D = Adam(lr_D, parameters=self.D.parameters(), **adam)
        # A large parameter moves as soon as its gradient is complete, so that there are never all gradients at a time;
        # mixed precision looks at all of them before it moves any.
        self.sum_G = GradientSum(of_E + of_G, None if opt.amp else self.optimizer_G.move)  # E's are complete last
        self.sum_D = GradientSum(self.D.parameters(), None if opt.amp else self.optimizer_D.move)
        self.scaler_G, self.scaler_D = (paddle.amp.GradScaler(enable=opt.amp) for _ in range(2))
        if opt.ema:
            live = {name: net for name, net in self.networks().items() if name != "n_d"}
            copies = {name: define_G(opt) if name == "n_g" else define_E(opt) for name in live}
            self.average = Average(live, copies, opt.ema, opt, batches)
        self.fakes = []  # of G's step for D's, with reuse_fake
        self.steps = 0  # finished ones
        self.draws = 0  # of style noise
        self.losses = dict.fromkeys(COLUMNS, 0.0)
        keep_large_maps()

    def networks(self):
        """{'n_g': G, 'n_d': D, 'n_e': E}, without E if there is none."""
        nets = {"n_g": self.G, "n_d": self.D, "n_e": self.E}
        return {name: net for name, net in nets.items() if net is not None}

    def saved_networks(self):
        """What a checkpoint holds: `networks`, and with ema the averaged ones as 'n_g_ema' and 'n_e_ema'."""
        averaged = self.average.networks() if self.average else {}
        return {**self.networks(), **{f"{name}_ema": net for name, net in averaged.items()}}

    def copy_from_first(self):
        """Give all processes the networks that the first has, as the start of training; the average begins there."""
        for net in self.networks().values():
            group.copy_from_first(net.state_dict().values())
        if self.average:
            self.average.restart()

    def load_networks(self, arrays, folder):
        """Put back the weights of a checkpoint; without averaged ones there, the average begins with the others.

        Args:
            arrays: {network: {key: array}}, by the names of `saved_networks`.
            folder: where they are from, for messages.

        Raises:
            UserError: A network is missing or does not fit.
        """
        for name, net in self.networks().items():
            if name not in arrays:
                raise UserError(f"{folder} has no {name}.pdparams")
            load_net(net, arrays[name], folder / f"{name}.pdparams")
        if self.average:
            self.average.restart()
            for name, net in self.average.nets.items():
                if f"{name}_ema" in arrays:
                    load_net(net, arrays[f"{name}_ema"], folder / f"{name}_ema.pdparams")

    def _optimizers(self):
        """{name: (optimiser, the networks that it trains)}."""
        nets = self.networks()
        d = {"n_d": nets.pop("n_d")}
        return {"optimizer_G": (self.optimizer_G, nets), "optimizer_D": (self.optimizer_D, d)}

    def state_dict(self):
        """All that the next step depends on beside the networks' weights: plain numbers and arrays."""
        state = {"steps": self.steps, "draws": self.draws, "losses": dict(self.losses), "betas": self.opt.betas}
        for name, (optimizer, nets) in self._optimizers().items():
            state[name] = optimizer_state(optimizer, nets)
        if self.average:
            state["average"] = self.average.state_dict()
        if self.opt.amp:
            state["scalers"] = [scaler.state_dict() for scaler in (self.scaler_G, self.scaler_D)]
        return state

    def load_state_dict(self, state, where):
        """Put back what `state_dict` returned, after the weights; `where` names its file in messages.

        What the state lacks, since its run was without ema or amp, begins anew. Moments of other betas go on as
        `with_betas` says; states of before betas were saved are taken for ones with these betas.

        Raises:
            UserError: The state belongs to other networks.
        """
        for name, (optimizer, nets) in self._optimizers().items():
            values = with_betas(state[name], state.get("betas", self.opt.betas), self.opt.betas)
            load_optimizer(optimizer, nets, values, where)
        if self.average and "average" in state:
            self.average.load_state_dict(state["average"])
        if self.opt.amp and "scalers" in state:
            for scaler, values in zip((self.scaler_G, self.scaler_D), state["scalers"], strict=True):
                scaler.load_state_dict(values)
        self.steps, self.draws, self.losses = state["steps"], state["draws"], dict(state["losses"])

    @paddle.no_grad()
    def preview(self, batch):
        """Pictures [N,3,H,W] in [-1,1] of a batch's maps, in evaluation mode; changes nothing that training depends on.

        Their style is the mean of the encoder's distribution for the photo, or zeros where there is no photo. With ema
        the averaged networks draw them.
        """
        nets = self.average.networks() if self.average else self.networks()
        for net in nets.values():
            net.eval()
        z = None
        if self.E:
            n, photo = len(batch["label"]), batch.get("image")
            z = paddle.zeros([n, self.opt.z_dim]) if photo is None else nets["n_e"](as_tensor(photo))[0]
        return nets["n_g"](Semantics.from_batch(batch, self.opt), z)

    def set_epoch(self, epoch):
        """Set both learning rates for an epoch, counted from 1: constant for niter, then linear decay."""
        factor = self.opt.decay(epoch)
        for optimizer, lr in zip((self.optimizer_G, self.optimizer_D), self.opt.learning_rates, strict=True):
            optimizer.set_lr(lr * factor)

    def sample_noise(self, shape):
        """Standard normal style noise [N, z_dim] for training, the same numbers (float32's) in every dtype.

        A function of the seed, the number of draws before and the sample's place in the whole batch, so that it is
        reproducible, needs no state but the count, and does not depend on how many processes share the batch.
        """
        n, z_dim = shape
        first = group.rank() * n
        rows = [
            np.random.Generator(np.random.Philox(key=[self.opt.seed, 1], counter=[0, 0, self.draws, place]))
            for place in range(first, first + n)
        ]
        self.draws += 1
        return as_tensor(np.stack([row.standard_normal(z_dim, dtype=np.float32) for row in rows]))

    def run(self, forward, *args):
        """forward(*args), in mixed precision if that is asked for; results are float32."""
        if not self.opt.amp:
            return forward(*args)
        with paddle.amp.auto_cast(level="O1", dtype="float16"):
            result = forward(*args)
        return float32(result)

    def encode(self, image, noise):
        """Style of photos: z [N, z_dim] from the encoder's distribution by standard normal noise, its mu and logvar."""
        mu, logvar = self.run(self.E, image)
        return noise * (0.5 * logvar).exp() + mu, mu, logvar

    def discriminate(self, semantics, fake, real):
        """D on fake and real as one batch, so that its batch norms see both; returns the two outputs."""
        return halves(self.run(self.D.features, semantics, paddle.concat([fake, real])))

    def micro_batches(self, semantics, image, with_noise=True):
        """The batch in the parts that are computed at once, with their style noise if there is to be any."""
        noise = self.sample_noise([len(image), self.opt.z_dim]) if self.E and with_noise else None
        return micro_batches(self.opt.accumulate, semantics, image, noise)

    def one_power_iteration(self, *nets):
        """Where needed, a context in which the networks' spectral norms hold still after one iteration."""
        held = self.opt.amp or self.opt.accumulate > 1
        return one_power_iteration([net for net in nets if net]) if held else contextlib.nullcontext()

    def update(self, optimizer, scaler):
        """One step of an optimiser along the gradients that there are; they are cleared."""
        scaler.step(optimizer)
        scaler.update()
        optimizer.clear_grad(set_to_zero=False)

    def step(self, batch, index=None):
        """One iteration: G (and E) against D's losses, then D on a fresh fake.

        With opt.accumulate each half of it adds up the gradients of the batch's parts and then moves its networks once.
        This is the step on the whole batch, but that batch norms see a part's pictures at a time (and record each) when
        there are any.

        Args:
            batch: image [N,3,H,W] floating in [-1,1], label [N,H,W] integer with unknown as label_nc, instance [N,H,W]
                integer unless no_instance.
            index: the batch's place in its epoch, from 0, by which D_steps_per_G counts, as the released code does;
                default: the steps done.

        Returns:
            The seven losses as floats, times their lambdas, of the whole batch on every process; when
            D_steps_per_G > 1, G's are those of its last step.
        """
        image = as_tensor(batch["image"])
        semantics = Semantics.from_batch(batch, self.opt)
        for net in self.networks().values():
            net.train()
        totals = {}
        if (self.steps if index is None else index) % self.opt.D_steps_per_G == 0:
            totals.update(self.step_G(semantics, image))
        totals.update(self.step_D(semantics, image))
        self.steps += 1
        sums = group.summed(np.array([float(value) for value in totals.values()]))
        self.losses.update(zip(totals, sums.tolist(), strict=True))
        self.losses["d_loss"] = self.losses["d_loss_f"] + self.losses["d_loss_r"]
        return dict(self.losses)

    def freeze_D(self, frozen):
        """Whether D's weights get no gradient."""
        for p in self.D.parameters():
            p.stop_gradient = frozen

    def step_G(self, semantics, image):
        """Update G and E; returns their losses, 0-d tensors, this process's terms of the whole batch's."""
        totals, self.fakes = {}, []
        self.freeze_D(True)  # this step throws the gradient of D's weights away
        with self.one_power_iteration(self.G, self.D, self.E):
            for part in self.micro_batches(semantics, image):
                losses, fake = self.losses_G(part)
                self.accumulate(losses, totals, self.scaler_G, part, self.sum_G)
                if self.opt.reuse_fake:
                    self.fakes.append(fake.detach())
        self.freeze_D(False)
        self.sum_G.finish()
        self.update(self.optimizer_G, self.scaler_G)
        if self.average:
            self.average.update()
        return totals

    def step_D(self, semantics, image):
        """Update D on a fresh fake, or with opt.reuse_fake on that of G's step, which G has moved on from since.

        G and E run in training mode, as the released code has it. Returns D's losses, as `step_G` does.
        """
        totals, fakes = {}, iter(self.fakes)
        self.optimizer_D.clear_grad(set_to_zero=False)
        again = not self.opt.reuse_fake
        with self.one_power_iteration(*([self.G, self.D, self.E] if again else [self.D])):
            for part in self.micro_batches(semantics, image, with_noise=again):
                losses = self.losses_D(part, self.fresh_fake(part) if again else next(fakes))
                self.accumulate(losses, totals, self.scaler_D, part, self.sum_D)
        self.fakes = []
        self.sum_D.finish()
        self.update(self.optimizer_D, self.scaler_D)
        return totals

    def losses_G(self, part):
        """G's and E's losses on a micro-batch by name, times their lambdas, and the pictures."""
        opt, losses = self.opt, {}
        z = None
        if self.E:
            z, mu, logvar = self.encode(part.image, part.noise)
            losses["g_loss_vae"] = opt.lambda_kld * kld_loss(mu, logvar)
        generated = self.run(self.G, part.semantics, z)
        fake, real = self.discriminate(part.semantics, generated, part.image)
        losses["g_loss_gan"] = gan_loss(fake, True, opt.gan_mode, for_discriminator=False)
        if not opt.no_ganFeat_loss:
            losses["g_loss_feat"] = opt.lambda_feat * feature_matching_loss(fake, real)
        if self.vgg is not None:
            vgg = functools.partial(self.run, self.vgg) if opt.amp else self.vgg
            losses["g_loss_vgg"] = opt.lambda_vgg * perceptual_loss(vgg, generated, part.image)
        return losses, generated

    @paddle.no_grad()
    def fresh_fake(self, part):
        """Pictures for D's step on a micro-batch."""
        return self.run(self.G, part.semantics, self.encode(part.image, part.noise)[0] if self.E else None)

    def losses_D(self, part, generated):
        """D's losses by name on a micro-batch and generated pictures of it."""
        fake, real = self.discriminate(part.semantics, generated, part.image)
        return {
            "d_loss_f": gan_loss(fake, False, self.opt.gan_mode),
            "d_loss_r": gan_loss(real, True, self.opt.gan_mode),
        }

    def accumulate(self, losses, totals, scaler, part, gradients):
        """Add a micro-batch's losses to the totals, and their gradients, which are sent with the batch's last part.

        Each is taken for its fraction of the whole batch, so that sums over parts and processes are the batch's own.
        """
        fraction = part.fraction / group.world()
        if fraction < 1:
            losses = {name: loss if name in SUMMED else fraction * loss for name, loss in losses.items()}
        if part.is_last:
            gradients.arm()
        scaler.scale(sum(losses.values())).backward()
        for name, loss in losses.items():
            totals[name] = totals[name] + loss.detach() if name in totals else loss.detach()
